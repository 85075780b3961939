/**
 * XDP frames in several buffers. The fragments are in the shared info at the end of the first buffer, where an
 * skb built on that buffer finds them.
 *
 * Law: `xdp_frags_size` is the sum of the fragments' lengths, and `hasFrags` says whether there are any.
 */
import type { Pfn } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { SHINFO_FRAG_WORDS, SHINFO_FRAGS_WORD, type SkBuff, setNrFrags } from '@netmem/skbuff'
import { SHINFO_XDP_FRAGS_SIZE_WORD, SHINFO_XDP_FRAGS_TRUESIZE_WORD, type XdpBuff, xdpDataHardEnd } from './xdp.js'
import type { XdpFrame } from './xdp-frame.js'

/** Where the shared info counts its fragments. */
export const SHINFO_NR_FRAGS_BYTE = 2

/** @returns how many fragments are behind the linear part. */
export const xdpNrFrags = (xdp: XdpBuff): number =>
  xdp.hasFrags ? xdp.mem.u8[(xdpDataHardEnd(xdp) >>> 0) + SHINFO_NR_FRAGS_BYTE]! : 0

/**
 * Models `xdp_buff_add_frag` (include/net/xdp.h): one more buffer. The reference comes with the call.
 *
 * @param truesize bytes that the fragment's memory costs. @returns false, with nothing taken, when all slots are used.
 */
export function xdpBuffAddFrag(xdp: XdpBuff, pfn: Pfn, offset: number, len: number, truesize: number): boolean {
  const { i32, u8 } = xdp.mem
  const end = xdpDataHardEnd(xdp) >>> 0
  const w = end >>> 2
  if (!xdp.hasFrags) {
    xdp.hasFrags = true
    u8[end + SHINFO_NR_FRAGS_BYTE] = 0
    i32[w + SHINFO_XDP_FRAGS_SIZE_WORD] = 0
    i32[w + SHINFO_XDP_FRAGS_TRUESIZE_WORD] = 0
  }
  const n = u8[end + SHINFO_NR_FRAGS_BYTE]!
  const at = w + SHINFO_FRAGS_WORD + n * SHINFO_FRAG_WORDS
  if ((at - w + SHINFO_FRAG_WORDS) * 4 > xdp.sharedInfoBytes) return false
  i32[at] = pfn
  i32[at + 2] = len
  i32[at + 3] = offset
  u8[end + SHINFO_NR_FRAGS_BYTE] = n + 1
  i32[w + SHINFO_XDP_FRAGS_SIZE_WORD] = i32[w + SHINFO_XDP_FRAGS_SIZE_WORD]! + len
  i32[w + SHINFO_XDP_FRAGS_TRUESIZE_WORD] = i32[w + SHINFO_XDP_FRAGS_TRUESIZE_WORD]! + truesize
  return true
}

/** What an skb that is built on a frame's first buffer must be told of the others. */
export class XdpFragsInfo {
  nr = 0
  size = 0
  truesize = 0
}

/** Reads it, before building the skb clears the count. @param end address of the shared info. */
export function xdpFragsSave(out: XdpFragsInfo, mem: Memory, end: number, hasFrags: boolean): void {
  const { i32, u8 } = mem
  const w = end >>> 2
  out.nr = hasFrags ? u8[end + SHINFO_NR_FRAGS_BYTE]! : 0
  out.size = hasFrags ? i32[w + SHINFO_XDP_FRAGS_SIZE_WORD]! : 0
  out.truesize = hasFrags ? i32[w + SHINFO_XDP_FRAGS_TRUESIZE_WORD]! : 0
}

/** Models `xdp_update_skb_shared_info` (include/net/xdp.h): the fragments are the skb's from here on. */
export function xdpUpdateSkbSharedInfo(skb: SkBuff, frags: XdpFragsInfo): void {
  if (frags.nr === 0) return
  setNrFrags(skb, frags.nr)
  skb.len += frags.size
  skb.dataLen += frags.size
  skb.truesize += frags.truesize
}

/** @returns the address of a frame's shared info. */
export const xdpFrameHardEnd = (frame: XdpFrame, frameDescBytes: number, sharedInfoBytes: number): number =>
  (frame.data - frame.headroom - frameDescBytes + frame.frameSz - sharedInfoBytes) >>> 0
