/**
 * `struct inet_sock` beyond what `Sock` has: options of the IP level. Protocols embed one in their own part
 * under the name `inet`.
 */
import type { SkBuff } from '@netmem/skbuff'
import { mibIndex, type Sock } from '@netmem/sockmem'
import type { Dst } from './dst.js'
import type { InetEnv } from './inet-env.js'
import { Cork } from './ip/cork.js'
import { ipv4IsMulticast } from './ip/ip-header.js'

const ICMP_OUT_MSGS = mibIndex('Icmp.OutMsgs')

/** Models `struct inet_sock`. */
export class InetSock {
  /** Models `pmtudisc`: one of `IP_PMTUDISC_*`; datagram sockets start with WANT. */
  pmtudisc = 1
  /** Models `np->pmtudisc`. */
  pmtudisc6 = 1
  tos = 0
  /** -1 for the namespace's default. */
  ucTtl = -1
  mcTtl = 1
  mcLoop = 1
  mcIndex = 0
  hopLimit = -1
  /** Bits of `INET_FLAGS_*`. */
  flags = 0
  recverr = false
  recverr6 = false
  freebind = false
  nodefrag = false
  hdrincl = false
  bindAddressNoPort = false
  transparent = false
  v6only = false
  dontfrag6 = false
  /** Models `inet_id`: the next IP identification of a connected socket. */
  id = 0
  /** The route of a connected socket, null to look it up. */
  dst: Dst | null = null
  /** Models `cmsg_flags`: which control messages the user wants. */
  cmsgFlags = 0
  private corkInUse: Cork | null = null

  /** The datagram being built with MSG_MORE or a cork; made when first asked for, as most sockets never cork. */
  get cork(): Cork {
    this.corkInUse ??= new Cork()
    return this.corkInUse
  }

  /** Models `ip_select_ttl`. */
  ttl(env: InetEnv, sk: Sock, _dst: Dst): number {
    if (ipv4IsMulticast(sk.daddr)) return this.mcTtl
    return this.ucTtl < 0 ? env.netOf(sk.net).defaultTtl[0] : this.ucTtl
  }

  /** Models `icmp_out_count` for packets that a cork made. */
  icmpOutCount(_env: InetEnv, sk: Sock, _skb: SkBuff): void {
    sk.net.mib[ICMP_OUT_MSGS] += 1
  }
}

/** What a protocol over IP keeps in `Sock.priv`. */
export interface HasInet {
  readonly inet: InetSock
}

/** @returns the IP part of a socket of this package's datagram protocols. */
export const inetOf = (sk: Sock): InetSock => (sk.priv as HasInet).inet
