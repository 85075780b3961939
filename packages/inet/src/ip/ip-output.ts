/**
 * The way out of IPv4: the last of the header, fragmentation when the route's MTU asks for it, the link header.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { gsoSize, kfreeSkb, SKB_IGNORE_DF, type SkBuff } from '@netmem/skbuff'
import { mibIndex, type NetNs } from '@netmem/sockmem'
import { ETH_P_IP, NETIF_F_GSO_SOFTWARE, skbGsoSegment } from '@netmem/virtual-nic'
import { type Dst, dstMtu } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import { ipDoFragment } from './ip-do-fragment.js'
import { ipFinishOutput2 } from './ip-finish.js'
import { IP_MAX_MTU, ipSendCheck } from './ip-header.js'

const IP_OUT_REQUESTS = mibIndex('Ip.OutRequests')
const IP_OUT_DISCARDS = mibIndex('Ip.OutDiscards')
const IP_FRAG_FAILS = mibIndex('Ip.FragFails')

/** Models `net_xmit_errno`: a congestion notice is no error for the sender. */
export const netXmitErrno = (rc: number): number => (rc !== 2 ? -ERRNO.ENOBUFS : 0)

/** Models `ip_send_skb` (net/ipv4/ip_output.c). Takes the skb. @returns 0 or a negative errno. */
export function ipSendSkb(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff): number {
  let err = ipLocalOut(env, cpu, net, skb)
  if (err > 0) err = netXmitErrno(err)
  if (err !== 0) net.mib[IP_OUT_DISCARDS] += 1
  return err
}

/** Models `ip_local_out` and `ip_output`: length and checksum, then to the device. Takes the skb. */
export function ipLocalOut(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff): number {
  const { mem } = env
  const iph = skb.data >>> 0
  mem.dv.setUint16(iph + 2, skb.len > 0xffff ? 0 : skb.len)
  ipSendCheck(mem, iph)
  skb.protocol = ETH_P_IP
  net.mib[IP_OUT_REQUESTS] += 1
  const dst = env.dsts[skb.refdst] as Dst
  skb.dev = dst.dev.id
  return ipFinishOutput(env, cpu, net, skb, dst)
}

/** Models `ip_finish_output`: whole, in GSO form, or in fragments. */
function ipFinishOutput(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst): number {
  const mtu = dstMtu(dst, IP_MAX_MTU)
  if (gsoSize(skb) !== 0) return ipFinishOutputGso(env, cpu, net, skb, dst, mtu)
  if (skb.len > mtu) return ipFragment(env, cpu, net, skb, dst, mtu)
  return ipFinishOutput2(env, cpu, net, skb, dst)
}

// Cold path.

/** Models `ip_fragment`: refused when the sender forbade it. */
function ipFragment(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, mtu: number): number {
  const df = (env.mem.dv.getUint16((skb.data >>> 0) + 6) & 0x4000) !== 0
  if (df && (skb.flags & SKB_IGNORE_DF) === 0) {
    net.mib[IP_FRAG_FAILS] += 1
    kfreeSkb(cpu, skb, 'PKT_TOO_BIG', 'ip_fragment')
    return -ERRNO.EMSGSIZE
  }
  return ipDoFragment(env, cpu, net, skb, dst, mtu)
}

/** Models `ip_finish_output_gso`: segments that fit go as one packet; larger ones are made here and fragmented. */
function ipFinishOutputGso(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, mtu: number): number {
  const headers = (skb.transportHeader - skb.networkHeader + transportHeaderBytes(env, skb)) | 0
  if (headers + gsoSize(skb) <= mtu) return ipFinishOutput2(env, cpu, net, skb, dst)
  const segs = skbGsoSegment(env.devs, cpu, skb, dst.dev.features & ~NETIF_F_GSO_SOFTWARE)
  if (segs === null || typeof segs === 'number') {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_finish_output_gso')
    return -ERRNO.ENOMEM
  }
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_finish_output_gso')
  let rc = 0
  let seg: SkBuff | null = segs
  while (seg !== null) {
    const next: SkBuff | null = seg.next === 0 ? null : env.skbs.skbs[seg.next]
    seg.next = 0
    const err = seg.len > mtu ? ipFragment(env, cpu, net, seg, dst, mtu) : ipFinishOutput2(env, cpu, net, seg, dst)
    if (err !== 0 && rc === 0) rc = err
    seg = next
  }
  return rc
}

function transportHeaderBytes(env: InetEnv, skb: SkBuff): number {
  const at = (skb.head + skb.transportHeader) >>> 0
  return env.mem.u8[(skb.data >>> 0) + 9] === 17 ? 8 : (env.mem.u8[at + 12] >> 4) * 4
}
