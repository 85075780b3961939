/**
 * What every way of making an skb ends with: the fields that the kernel clears or sets. The shared info behind
 * the data is cleared by its first user (`shared-info.ts`). Shaped for speed: see `bench/skb.bench.ts`, cases
 * `skb.hot` and `skb.window1024`.
 */
import { type Addr, assert, type Cpu, type Pfn } from '@netmem/base'
import type { Skbuffs } from './env.js'
import { SKB_HEAD_FRAG, SKB_HEADER_UNSET, type SkBuff } from './sk-buff.js'

/**
 * Models `__finalize_skb_around`/`__build_skb_around` (net/core/skbuff.c) together with the clearing of
 * everything before `tail` that its callers do.
 *
 * @param room bytes of the block before the shared info. @param truesize of the block and a descriptor.
 * @param flags the bits to be born with. @param headroom bytes to reserve at once.
 * @param headPage of a page fragment, else 0.
 */
export function buildSkbBody(
  env: Skbuffs,
  skb: SkBuff,
  head: Addr,
  room: number,
  truesize: number,
  flags: number,
  headPage: Pfn,
  cpuId: number,
  headroom: number,
  dev: number,
): void {
  const data = ((head + headroom) | 0) as Addr
  const end = ((head + room) | 0) as Addr
  skb.flags = flags
  skb.users = 1
  skb.next = 0
  skb.head = head
  skb.data = data
  skb.tail = data
  skb.end = end
  skb.headPage = headPage
  skb.len = 0
  skb.dataLen = 0
  skb.truesize = truesize
  skb.destructor = 0
  skb.sk = 0
  skb.dev = dev
  skb.refdst = 0
  skb.protocol = 0
  skb.transportHeader = SKB_HEADER_UNSET
  skb.macHeader = SKB_HEADER_UNSET
  skb.queueMapping = 0
  skb.priority = 0
  skb.hash = 0
  skb.allocCpu = cpuId
  if (__ASSERT__) {
    assert((end & 7) === 0, 'skb_shared_info: not aligned')
    assert(skb.env === env, 'a descriptor of another machine')
  }
}

/** As `buildSkbBody` for a block of `bytes`, shared info included, that is not of the everyday kind. */
export function buildSkbBlock(
  env: Skbuffs,
  skb: SkBuff,
  head: Addr,
  bytes: number,
  flags: number,
  cpu: Cpu,
  headroom: number,
  dev: number,
): SkBuff {
  const page = ((flags & SKB_HEAD_FRAG) !== 0 ? env.pageHead[head >>> 12]! : 0) as Pfn
  const room = bytes - env.sharedInfoBytes
  buildSkbBody(env, skb, head, room, bytes + env.headBytes, flags, page, cpu.id, headroom, dev)
  return skb
}
