/**
 * How big things are: the size macros of the network stack, worked out once from the profile. Most of a
 * packet's truesize is decided by these few numbers.
 */
import { assert, type KernelProfile } from '@netmem/base'

/** Bytes, unless said otherwise. Every skb subsystem has its own, for its own profile. */
export interface SkbSizes {
  readonly pageBytes: number
  /** Models `SMP_CACHE_BYTES`: what heads and fragments are rounded to. */
  readonly lineBytes: number
  /** Models `SKB_DATA_ALIGN(sizeof(struct skb_shared_info))`: what every head block ends with. */
  readonly sharedInfoBytes: number
  /** Models `SKB_DATA_ALIGN(sizeof(struct sk_buff))`: what truesize counts for the descriptor. */
  readonly headBytes: number
  /** Models `SKB_SMALL_HEAD_CACHE_SIZE`; 0 where the kernel has no such cache. */
  readonly smallHeadBytes: number
  /** Models `SKB_SMALL_HEAD_HEADROOM`: usable bytes of a small head; 0 where there is none. */
  readonly smallHeadRoom: number
  /** Models `NET_SKB_PAD`. */
  readonly netSkbPad: number
  /** Models `NET_IP_ALIGN`: 0 where unaligned access is cheap. */
  readonly netIpAlign: number
  /** Models `MAX_SKB_FRAGS`. */
  readonly maxFrags: number
  /** At most this many bytes (headroom included) come from the slab rather than from a page fragment. */
  readonly rxSlabRoom: number
  /** More than this many bytes (headroom included) come from the slab again. */
  readonly rxPageRoom: number
}

/** @throws RangeError when the profile lacks a size that skbs need. */
export function skbSizes(profile: KernelProfile): SkbSizes {
  const line = profile.SMP_CACHE_BYTES
  const align = (bytes: number) => Math.ceil(bytes / line) * line
  const struct = (name: string): number => {
    const layout = profile.structs[name]
    if (layout === undefined) throw new RangeError(`profile ${profile.name}: structs.${name} must be present`)
    return layout.size
  }
  const sharedInfoBytes = align(struct('skb_shared_info'))
  const small = profile.features.skbSmallHeadCache ? Number(profile.slab_sysfs.skbuff_small_head?.object_size ?? 0) : 0
  if (profile.features.skbSmallHeadCache && small <= sharedInfoBytes)
    throw new RangeError(
      `profile ${profile.name}: slab_sysfs.skbuff_small_head.object_size must exceed the shared info`,
    )
  const smallHeadRoom = small === 0 ? 0 : small - sharedInfoBytes
  return {
    pageBytes: profile.page_size,
    lineBytes: line,
    sharedInfoBytes,
    headBytes: align(struct('sk_buff')),
    smallHeadBytes: small,
    smallHeadRoom,
    netSkbPad: Math.max(32, line),
    netIpAlign: profile.machine === 'x86_64' ? 0 : 2,
    maxFrags: profile.MAX_SKB_FRAGS,
    // Kernels without small heads draw the lower line at what a kilobyte holds.
    rxSlabRoom: smallHeadRoom === 0 ? 1024 - sharedInfoBytes : smallHeadRoom,
    rxPageRoom: profile.page_size - sharedInfoBytes,
  }
}

/** Models `SKB_DATA_ALIGN`: up to the next cache line. */
export const skbDataAlign = (sizes: SkbSizes, bytes: number): number => (bytes + sizes.lineBytes - 1) & -sizes.lineBytes

/** Models `SKB_WITH_OVERHEAD`: what a block of that size leaves for data. */
export const skbWithOverhead = (sizes: SkbSizes, bytes: number): number => bytes - sizes.sharedInfoBytes

/** Models `SKB_HEAD_ALIGN`: the block that holds so many bytes of data and the shared info. */
export const skbHeadAlign = (sizes: SkbSizes, bytes: number): number =>
  skbDataAlign(sizes, bytes) + sizes.sharedInfoBytes

/** Models `SKB_TRUESIZE`: what so many bytes of linear room cost, descriptor and shared info included. */
export const skbTruesize = (sizes: SkbSizes, bytes: number): number => bytes + sizes.headBytes + sizes.sharedInfoBytes

/** Models `SKB_MAX_ORDER`: linear room of a block of that order behind a headroom. */
export const skbMaxOrder = (sizes: SkbSizes, headroom: number, order: number): number =>
  skbWithOverhead(sizes, (sizes.pageBytes << order) - headroom)

/** Models `SKB_MAX_HEAD`: linear room of one page behind a headroom. */
export const skbMaxHead = (sizes: SkbSizes, headroom: number): number => skbMaxOrder(sizes, headroom, 0)

/** Models `SKB_MAX_ALLOC`: linear room of an order-2 block. */
export const skbMaxAlloc = (sizes: SkbSizes): number => skbMaxOrder(sizes, 0, 2)

/** Checks the constants that the hot paths have built in against the profile. @throws KernelBug when they differ. */
export function checkSkbSizes(sizes: SkbSizes): void {
  assert((sizes.lineBytes & (sizes.lineBytes - 1)) === 0, 'a cache line is a power of two')
  assert(sizes.sharedInfoBytes % 8 === 0, 'the shared info is cleared by double words')
}
