/**
 * Fragmentation of IPv4: a packet that was already built as a list of the right sizes is taken apart, any other
 * is copied piece by piece.
 */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import {
  allocSkb,
  CHECKSUM_NONE,
  CHECKSUM_PARTIAL,
  consumeSkb,
  fragList,
  kfreeSkb,
  type SkBuff,
  setFragList,
  skbCloned,
  skbCopyBits,
  skbHeadlen,
  skbHeadroom,
  skbPushUnchecked,
  skbPutUnchecked,
  skbReserve,
  skbShared,
} from '@netmem/skbuff'
import { mibIndex, type NetNs, skbSetOwnerW } from '@netmem/sockmem'
import { ETH_P_IP, skbChecksumHelp } from '@netmem/virtual-nic'
import { type Dst, llReservedSpace } from '../dst.js'
import type { InetEnv } from '../inet-env.js'
import { ipFinishOutput2 } from './ip-finish.js'
import { IP_DF, IP_MF, IP_OFFSET, ipSendCheck } from './ip-header.js'

const IP_FRAG_OKS = mibIndex('Ip.FragOKs')
const IP_FRAG_FAILS = mibIndex('Ip.FragFails')
const IP_FRAG_CREATES = mibIndex('Ip.FragCreates')

/** Models `ip_do_fragment` (net/ipv4/ip_output.c). Takes the skb. @param mtu of the route, bytes. */
export function ipDoFragment(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, mtu: number): number {
  if (skb.ipSummed === CHECKSUM_PARTIAL && skbChecksumHelp(cpu, skb) !== 0) return fail(cpu, net, skb, -ERRNO.ENOMEM)
  const iph = skb.data >>> 0
  const hlen = (env.mem.u8[iph] & 15) * 4
  const room = mtu - hlen
  const space = llReservedSpace(dst.dev)
  if (fragList(skb) !== 0 && listHasRightGeometry(env, skb, hlen, room, space))
    return sendFragList(env, cpu, net, skb, dst, hlen)
  return sendCopies(env, cpu, net, skb, dst, hlen, room & ~7, space)
}

/** Whether each buffer is a fragment as it is: multiples of eight, room in front, nobody else looking. */
function listHasRightGeometry(env: InetEnv, skb: SkBuff, hlen: number, room: number, space: number): boolean {
  const first = skbHeadlen(skb) + pagedBytes(env, skb)
  const already = (env.mem.dv.getUint16((skb.data >>> 0) + 6) & (IP_MF | IP_OFFSET)) !== 0
  if (first - hlen > room || ((first - hlen) & 7) !== 0 || already || skbCloned(skb) || skbHeadroom(skb) < space)
    return false
  for (let id = fragList(skb); id !== 0; ) {
    const frag = env.skbs.skbs[id]
    if (frag.len > room || ((frag.len & 7) !== 0 && frag.next !== 0) || skbHeadroom(frag) < hlen + space) return false
    if (skbShared(frag)) return false
    id = frag.next
  }
  return true
}

/** Bytes in the first buffer's own page fragments: `data_len` without the list. */
function pagedBytes(env: InetEnv, skb: SkBuff): number {
  let bytes = skb.dataLen
  for (let id = fragList(skb); id !== 0; ) {
    const frag = env.skbs.skbs[id]
    bytes -= frag.len
    id = frag.next
  }
  return bytes
}

/** The fast path: each buffer gets a copy of the header and its share of the charge. */
function sendFragList(env: InetEnv, cpu: Cpu, net: NetNs, skb: SkBuff, dst: Dst, hlen: number): number {
  const { mem, skbs } = env
  let id = fragList(skb)
  const firstLen = skbHeadlen(skb) + pagedBytes(env, skb)
  for (let at = id; at !== 0; ) {
    const frag = skbs.skbs[at]
    if (skb.sk !== 0) {
      frag.sk = skb.sk
      frag.destructor = env.socks.sockWfree
    }
    skb.truesize -= frag.truesize
    at = frag.next
  }
  setFragList(skb, 0)
  skb.len = firstLen
  skb.dataLen = firstLen - skbHeadlenBefore(skb)
  const iph = skb.data >>> 0
  mem.dv.setUint16(iph + 2, firstLen)
  mem.dv.setUint16(iph + 6, IP_MF)
  ipSendCheck(mem, iph)
  let offset = firstLen - hlen
  // The next buffer's header is made before this one leaves: then its bytes are no longer ours to read.
  let current: SkBuff = skb
  for (;;) {
    const next: SkBuff | null = id === 0 ? null : skbs.skbs[id]
    if (next !== null) {
      id = next.next
      next.next = 0
      prepareNext(env, current, next, hlen, offset, id !== 0)
      offset += next.len - hlen
    }
    net.mib[IP_FRAG_CREATES] += 1
    const err = ipFinishOutput2(env, cpu, net, current, dst)
    if (next === null) {
      if (err === 0) net.mib[IP_FRAG_OKS] += 1
      return finish(net, err)
    }
    if (err !== 0) {
      kfreeSkb(cpu, next, 'NOT_SPECIFIED', 'ip_do_fragment')
      freeRest(env, cpu, id)
      return finish(net, err)
    }
    current = next
  }
}

/** The linear bytes of a buffer whose lengths are being rewritten: from its pointers. */
const skbHeadlenBefore = (skb: SkBuff): number => (skb.tail - skb.data) | 0

/** Models `ip_fraglist_prepare`. `from` is the buffer before it, which is still ours; earlier ones may be anywhere. */
function prepareNext(env: InetEnv, from: SkBuff, frag: SkBuff, hlen: number, offset: number, more: boolean): void {
  const { mem } = env
  frag.ipSummed = CHECKSUM_NONE
  frag.transportHeader = (frag.data - frag.head) | 0
  const at = skbPushUnchecked(frag, hlen) >>> 0
  frag.networkHeader = (frag.data - frag.head) | 0
  const source = from.data >>> 0
  mem.u8.copyWithin(at, source, source + hlen)
  mem.dv.setUint16(at + 2, frag.len)
  mem.dv.setUint16(at + 6, (offset >> 3) | (more ? IP_MF : 0))
  ipSendCheck(mem, at)
  frag.protocol = ETH_P_IP
  frag.dev = from.dev
  frag.priority = from.priority
  frag.refdst = from.refdst
}

function freeRest(env: InetEnv, cpu: Cpu, first: number): void {
  for (let id = first; id !== 0; ) {
    const skb = env.skbs.skbs[id]
    id = skb.next
    skb.next = 0
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_do_fragment')
  }
}

function finish(net: NetNs, err: number): number {
  if (err !== 0) net.mib[IP_FRAG_FAILS] += 1
  return err
}

/** The slow path: models `ip_frag_next` in a loop. Each piece is a fresh buffer charged to the sender. */
function sendCopies(
  env: InetEnv,
  cpu: Cpu,
  net: NetNs,
  skb: SkBuff,
  dst: Dst,
  hlen: number,
  room: number,
  space: number,
): number {
  const { mem } = env
  const iph = skb.data >>> 0
  const word = mem.dv.getUint16(iph + 6)
  let offset = (word & IP_OFFSET) << 3
  const lastOfAll = (word & IP_MF) === 0
  let left = skb.len - hlen
  let ptr = hlen
  while (left > 0) {
    const len = Math.min(left, room)
    const piece = allocSkb(env.skbs, cpu, len + hlen + space, mem.gfp.GFP_ATOMIC, 0, -1)
    if (piece === null) return fail(cpu, net, skb, -ERRNO.ENOMEM)
    skbReserve(piece, space)
    const at = skbPutUnchecked(piece, len + hlen)
    piece.networkHeader = (at - piece.head) | 0
    piece.transportHeader = piece.networkHeader + hlen
    if (skb.sk !== 0) skbSetOwnerW(cpu, piece, env.socks.sockOf(skb))
    mem.u8.copyWithin(at >>> 0, skb.data >>> 0, (skb.data >>> 0) + hlen)
    skbCopyBits(skb, ptr, ((at + hlen) | 0) as Addr, len)
    left -= len
    const more = left > 0 || !lastOfAll
    mem.dv.setUint16((at >>> 0) + 2, len + hlen)
    mem.dv.setUint16((at >>> 0) + 6, (word & IP_DF) | (offset >> 3) | (more ? IP_MF : 0))
    ipSendCheck(mem, at >>> 0)
    piece.protocol = ETH_P_IP
    piece.dev = skb.dev
    piece.priority = skb.priority
    piece.refdst = skb.refdst
    ptr += len
    offset += len
    net.mib[IP_FRAG_CREATES] += 1
    const err = ipFinishOutput2(env, cpu, net, piece, dst)
    if (err !== 0) return fail(cpu, net, skb, err)
  }
  consumeSkb(cpu, skb, 'ip_do_fragment')
  net.mib[IP_FRAG_OKS] += 1
  return 0
}

function fail(cpu: Cpu, net: NetNs, skb: SkBuff, err: number): number {
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'ip_do_fragment')
  net.mib[IP_FRAG_FAILS] += 1
  return err
}
