/**
 * What every way of making an skb ends with: the fields that the kernel clears or sets, and a clear shared
 * info behind the data. Shaped for speed: see `bench/skb.bench.ts`, cases G1 and G2.
 */
import type { Addr } from '@netmem/base'
import { SHINFO_DATAREF_WORD } from './shared-info.js'
import { SKB_HEADER_UNSET, type SkBuff } from './sk-buff.js'

/**
 * Models `__finalize_skb_around`/`__build_skb_around` (net/core/skbuff.c) together with the clearing of
 * everything before `tail` that its callers do.
 *
 * @param bytes the whole block at `head`, shared info included.
 * @param flags the bits to be born with.
 */
export function buildSkbBody(skb: SkBuff, head: Addr, bytes: number, flags: number, cpuId: number): void {
  const env = skb.env
  const sizes = env.sizes
  const end = ((head + bytes) | 0) - sizes.sharedInfoBytes
  skb.flags = flags
  skb.users = 1
  skb.next = 0
  skb.head = head
  skb.data = head
  skb.tail = head
  skb.end = (end | 0) as Addr
  skb.len = 0
  skb.dataLen = 0
  skb.truesize = bytes + sizes.headBytes
  skb.destructor = 0
  skb.sk = 0
  skb.dev = 0
  skb.refdst = 0
  skb.protocol = 0
  skb.transportHeader = SKB_HEADER_UNSET
  skb.macHeader = SKB_HEADER_UNSET
  skb.queueMapping = 0
  skb.priority = 0
  skb.hash = 0
  skb.allocCpu = cpuId
  clearSharedInfo(env.i32, end >>> 2)
}

/** Clears everything before `dataref` and sets that to 1; the fragments themselves are not cleared. */
export function clearSharedInfo(words: Int32Array, at: number): void {
  words[at] = 0
  words[at + 1] = 0
  words[at + 2] = 0
  words[at + 3] = 0
  words[at + 4] = 0
  words[at + 5] = 0
  words[at + 6] = 0
  words[at + 7] = 0
  words[at + SHINFO_DATAREF_WORD] = 1
}
