/** What a datagram under construction needs to remember between the pieces it is built from. */
import type { Addr } from '@netmem/base'
import { NULL } from '@netmem/base'
import type { Dst } from '../dst.js'

/** Models `struct inet_cork`, with the flow that goes with it. */
export class Cork {
  dst: Dst | null = null
  /** Bytes per packet at most, headers included. */
  fragsize = 0
  /** Bytes appended so far, the transport header included. */
  length = 0
  /** Payload bytes per segment of a UDP GSO send, 0 for none. */
  gsoSize = 0
  /** Address of copied IP options, kept until the packet is made. */
  opt = NULL as Addr
  tos = 0
  ttl = 0
  mark = 0
  priority = 0
  saddr = 0
  daddr = 0
  sport = 0
  dport = 0
  private flow6: Int32Array[] | null = null

  /** IPv6 addresses of the flow: made when first asked for. */
  get saddr6(): Int32Array {
    return this.flowOf6()[0]
  }

  get daddr6(): Int32Array {
    return this.flowOf6()[1]
  }

  private flowOf6(): Int32Array[] {
    this.flow6 ??= [new Int32Array(4), new Int32Array(4)]
    return this.flow6
  }
}

/** Models `struct ipcm_cookie`: what one call says about its packet. Reused for every call. */
export class IpcmCookie {
  gsoSize = 0
  tos = -1
  ttl = 0
  mark = 0
  priority = 0
  oif = 0
  /** The packet carries the (empty) options of an ICMP reply. */
  opt = false
}
