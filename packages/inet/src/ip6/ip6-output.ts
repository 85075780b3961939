/**
 * The way out of IPv6: length, fragmentation, the link header, the device.
 */
import { type Addr, type Cpu, ERRNO, NULL } from '@netmem/base'
import { kfree, kmalloc } from '@netmem/memory'
import {
  allocSkb,
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  consumeSkb,
  fragList,
  gsoSize,
  kfreeSkb,
  SKB_IGNORE_DF,
  type SkBuff,
  setFragList,
  skbCloned,
  skbCopyBits,
  skbHeadroom,
  skbPullUnchecked,
  skbPushUnchecked,
  skbPutUnchecked,
  skbReserve,
  skbShared,
} from '@netmem/skbuff'
import { mibIndex, type NetNs, skbSetOwnerW } from '@netmem/sockmem'
import { devQueueXmit, ETH_P_IPV6, ethHeaderWrite, IFF_LOOPBACK, skbChecksumHelp } from '@netmem/virtual-nic'
import { type Dst, dstMtu, llReservedSpace } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import { skbExpandHead } from '../ip/ip-finish.js'
import { FRAG_HLEN, IPV6_HLEN, IPV6_MAXPLEN, ipv6AddrEqual } from './ipv6-header.js'

const OUT_REQUESTS = mibIndex('Ip6.OutRequests')
const OUT_TRANSMITS = mibIndex('Ip6.OutTransmits')
const OUT_OCTETS = mibIndex('Ip6.OutOctets')
const OUT_DISCARDS = mibIndex('Ip6.OutDiscards')
const FRAG_OKS = mibIndex('Ip6.FragOKs')
const FRAG_FAILS = mibIndex('Ip6.FragFails')
const FRAG_CREATES = mibIndex('Ip6.FragCreates')
const IP6_MF = 1

/** Models `IP6_MAX_MTU`. */
export const IP6_MAX_MTU = 0xffff + IPV6_HLEN

/** Models `ip6_send_skb`. Takes the skb. @returns 0 or a negative errno. */
export function ip6SendSkb(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff): number {
  let err = ip6LocalOut(env, cpu, net, skb)
  if (err > 0) err = err !== 2 ? -ERRNO.ENOBUFS : 0
  if (err !== 0) net.mib[OUT_DISCARDS] += 1
  return err
}

/** Models `ip6_local_out`, `ip6_output` and `ip6_finish_output` (net/ipv6/ip6_output.c). Takes the skb. */
export function ip6LocalOut(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff): number {
  const payload = skb.len - IPV6_HLEN
  env.mem.dv.setUint16((skb.data >>> 0) + 4, payload > IPV6_MAXPLEN ? 0 : payload)
  skb.protocol = ETH_P_IPV6
  net.mib[OUT_REQUESTS] += 1
  const dst = env.dsts[skb.refdst] as Dst
  skb.dev = dst.dev.id
  const mtu = dstMtu(dst, IP6_MAX_MTU)
  if (gsoSize(skb) === 0 && skb.len > mtu) return ip6Fragment(env, cpu, net, skb, dst, mtu)
  return ip6FinishOutput2(env, cpu, net, skb, dst)
}

/** Models `ip6_finish_output2`. */
function ip6FinishOutput2(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst): number {
  const { dev } = dst
  net.mib[OUT_TRANSMITS] += 1
  net.mib[OUT_OCTETS] += skb.len
  const space = llReservedSpace(dev)
  if (skbHeadroom(skb) < space && skbExpandHead(env.socks, cpu, skb, space) !== 0) return -ERRNO.ENOMEM
  if (dev.hardHeaderLen !== 0) {
    const at = skbPushUnchecked(skb, dev.hardHeaderLen) >>> 0
    if ((dev.flags & IFF_LOOPBACK) !== 0) ethHeaderWrite(dev, at, dev.macHi, dev.macLo, ETH_P_IPV6)
    else {
      const hop = dst.gateway6 ?? env.wordsAt(at + dev.hardHeaderLen + 24)
      const neigh = env
        .netOfDev(dev)
        .neighbours.find((n) => n.dev === dev && n.addr6 !== null && ipv6AddrEqual(n.addr6, hop))
      if (neigh === undefined) {
        kfreeSkb(cpu, skb, 'NEIGH_FAILED', 'neigh_output')
        return -ERRNO.EHOSTUNREACH
      }
      ethHeaderWrite(dev, at, neigh.macHi, neigh.macLo, ETH_P_IPV6)
    }
  }
  return devQueueXmit(env.devs, cpu, skb)
}

/** Models `ip6_fragment` (net/ipv6/ip6_output.c). Takes the skb. */
function ip6Fragment(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, mtu: number): number {
  if ((skb.flags & SKB_IGNORE_DF) === 0) {
    net.mib[FRAG_FAILS] += 1
    kfreeSkb(cpu, skb, 'PKT_TOO_BIG', 'ip6_fragment')
    return -ERRNO.EMSGSIZE
  }
  if (skb.ipSummed === CHECKSUM_PARTIAL && skbChecksumHelp(cpu, skb) !== 0) return fail(cpu, net, skb, -ERRNO.ENOMEM)
  const room = (mtu - IPV6_HLEN - FRAG_HLEN) & ~7
  const nexthdr = env.mem.u8[(skb.data >>> 0) + 6]
  const id = env.nextFragId6()
  const space = llReservedSpace(dst.dev)
  if (fragList(skb) !== 0 && listFits(env, skb, room, space)) return sendList(env, cpu, net, skb, dst, nexthdr, id)
  return sendCopies(env, cpu, net, skb, dst, nexthdr, id, room, space)
}

function ownBytes(env: InetEnv, skb: SkBuff): number {
  let bytes = skb.len
  for (let id = fragList(skb); id !== 0; id = env.skbs.skbs[id].next) bytes -= env.skbs.skbs[id].len
  return bytes
}

function listFits(env: InetEnv, skb: SkBuff, room: number, space: number): boolean {
  const first = ownBytes(env, skb) - IPV6_HLEN
  if (first > room || (first & 7) !== 0 || skbCloned(skb) || skbHeadroom(skb) < space + FRAG_HLEN) return false
  for (let id = fragList(skb); id !== 0; ) {
    const frag = env.skbs.skbs[id]
    if (frag.len > room || ((frag.len & 7) !== 0 && frag.next !== 0)) return false
    if (skbHeadroom(frag) < IPV6_HLEN + space + FRAG_HLEN || skbShared(frag)) return false
    id = frag.next
  }
  return true
}

/** The fast path: the header moves up to make room for the fragment header; each buffer gets a copy of both. */
function sendList(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, nexthdr: number, ident: number): number {
  const { mem, skbs } = env
  // The kernel keeps the header in a block of its own while the buffers go out.
  const header = kmalloc(mem, cpu, IPV6_HLEN, mem.gfp.GFP_ATOMIC, 'ip6_fraglist_init')
  if (header === NULL) return fail(cpu, net, skb, -ERRNO.ENOMEM)
  mem.u8.copyWithin(header >>> 0, skb.data >>> 0, (skb.data >>> 0) + IPV6_HLEN)
  mem.u8[(header >>> 0) + 6] = 44
  let id = fragList(skb)
  for (let at = id; at !== 0; at = skbs.skbs[at].next) {
    const frag = skbs.skbs[at]
    if (skb.sk !== 0) {
      frag.sk = skb.sk
      frag.destructor = env.socks.sockWfree
    }
    skb.truesize -= frag.truesize
  }
  const own = ownBytes(env, skb)
  const linear = (skb.tail - skb.data) | 0
  setFragList(skb, 0)
  skb.len = own
  skb.dataLen = own - linear
  skbPullUnchecked(skb, IPV6_HLEN)
  pushHeaders(env, skb, header, nexthdr, ident, IP6_MF)
  let offset = own - IPV6_HLEN
  let current: SkBuff = skb
  for (;;) {
    const next: SkBuff | null = id === 0 ? null : skbs.skbs[id]
    if (next !== null) {
      id = next.next
      next.next = 0
      next.ipSummed = CHECKSUM_NONE
      next.transportHeader = (next.data - next.head) | 0
      const bytes = next.len
      pushHeaders(env, next, header, nexthdr, ident, offset | (id !== 0 ? IP6_MF : 0))
      next.protocol = ETH_P_IPV6
      next.dev = skb.dev
      next.priority = skb.priority
      next.refdst = skb.refdst
      offset += bytes
    }
    net.mib[FRAG_CREATES] += 1
    const err = ip6FinishOutput2(env, cpu, net, current, dst)
    if (next === null || err !== 0) {
      kfree(mem, cpu, header, 'ip6_fragment')
      if (err === 0) net.mib[FRAG_OKS] += 1
      else {
        net.mib[FRAG_FAILS] += 1
        if (next !== null) kfreeSkb(cpu, next, 'NOT_SPECIFIED', 'ip6_fragment')
        while (id !== 0) {
          const rest = skbs.skbs[id]
          id = rest.next
          rest.next = 0
          kfreeSkb(cpu, rest, 'NOT_SPECIFIED', 'ip6_fragment')
        }
      }
      return err
    }
    current = next
  }
}

/** Pushes fragment header and IPv6 header. @param offFlags offset in bytes, with the "more" bit. */
function pushHeaders(env: InetEnv, skb: SkBuff, header: Addr, nexthdr: number, ident: number, offFlags: number): void {
  const { mem } = env
  const fh = skbPushUnchecked(skb, FRAG_HLEN) >>> 0
  const at = skbPushUnchecked(skb, IPV6_HLEN) >>> 0
  skb.networkHeader = (skb.data - skb.head) | 0
  mem.u8.copyWithin(at, header >>> 0, (header >>> 0) + IPV6_HLEN)
  mem.u8[fh] = nexthdr
  mem.u8[fh + 1] = 0
  mem.dv.setUint16(fh + 2, offFlags)
  mem.dv.setInt32(fh + 4, ident)
  mem.dv.setUint16(at + 4, skb.len - IPV6_HLEN)
}

/** The slow path: models `ip6_frag_next` in a loop. */
function sendCopies(
  env: InetEnv,
  cpu: Cpu,
  net: NetNs,
  skb: SkBuff,
  dst: Dst,
  nexthdr: number,
  ident: number,
  room: number,
  space: number,
): number {
  const { mem } = env
  let left = skb.len - IPV6_HLEN
  let offset = 0
  while (left > 0) {
    const len = Math.min(left, room)
    const headers = IPV6_HLEN + FRAG_HLEN
    const piece = allocSkb(env.skbs, cpu, len + headers + space, mem.gfp.GFP_ATOMIC, 0, -1)
    if (piece === null) return fail(cpu, net, skb, -ERRNO.ENOMEM)
    skbReserve(piece, space + headers)
    const at = skbPutUnchecked(piece, len)
    skbCopyBits(skb, IPV6_HLEN + offset, at, len)
    if (skb.sk !== 0) skbSetOwnerW(cpu, piece, env.socks.sockOf(skb))
    piece.transportHeader = (at - piece.head) | 0
    left -= len
    pushHeaders(env, piece, skb.data, nexthdr, ident, offset | (left > 0 ? IP6_MF : 0))
    mem.u8[(piece.data >>> 0) + 6] = 44
    piece.protocol = ETH_P_IPV6
    piece.dev = skb.dev
    piece.refdst = skb.refdst
    offset += len
    net.mib[FRAG_CREATES] += 1
    const err = ip6FinishOutput2(env, cpu, net, piece, dst)
    if (err !== 0) return fail(cpu, net, skb, err)
  }
  consumeSkb(cpu, skb, 'ip6_fragment')
  net.mib[FRAG_OKS] += 1
  return 0
}

function fail(cpu: Cpu, net: NetNs, skb: SkBuff, err: number): number {
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip6_fragment')
  net.mib[FRAG_FAILS] += 1
  return err
}
