export * from './absent.js'
export {
  allocSkb,
  allocSkbFclone,
  kmallocReserveBytes,
  NUMA_NO_NODE,
  SKB_ALLOC_FCLONE,
  SKB_ALLOC_NAPI,
  SKB_ALLOC_RX,
} from './alloc.js'
export { buildSkbBody } from './birth.js'
export * from './bits.js'
export * from './build.js'
export * from './checksum.js'
export { skbClone, skbMorph } from './clone.js'
export * from './coalesce.js'
export * from './copy.js'
export * from './datagram.js'
export { skbCloned, skbHeaderCloned, skbHeaderRelease, skbHeaderReleaseFresh } from './dataref.js'
export { kfreeSkbNapiCache, netTxCompletion, skbAttemptDeferFree, skbDeferFreeFlush } from './defer.js'
export * from './drop-reason.js'
export type { SkbDestructor, SkbInitParams, SkbSlots } from './env.js'
export { registerSkbDestructor, SkbDeferNode, Skbuffs, skbInit } from './env.js'
export * from './expand.js'
export * from './extensions.js'
export * from './frag-pages.js'
export * from './frags.js'
export * from './free.js'
export * from './header-fields.js'
export * from './linear.js'
export * from './napi-alloc-cache.js'
export * from './napi-skb-cache.js'
export { napiSlicesDrain } from './napi-slices.js'
export * from './nonlinear.js'
export * from './queue.js'
export * from './queue-purge.js'
export * from './release.js'
export * from './rx-alloc.js'
export * from './segment.js'
export * from './shared-info.js'
export * from './sizes.js'
export * from './sk-buff.js'
export * from './split.js'
export * from './zerocopy.js'
