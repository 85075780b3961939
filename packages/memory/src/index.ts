export { allocPagesBulk } from './alloc-bulk.js'
export {
  allocPages,
  freeFrozenPages,
  freePages,
  freePagesAddr,
  getFreePages,
  putPage,
  splitPage,
} from './alloc-pages.js'
export { gfpPfmemallocAllowed } from './alloc-slow.js'
export { memoryCreate } from './boot.js'
export { memcmp, memcpy, memset, readBytes, writeBytes } from './bytes.js'
export type { FaultKind } from './fault.js'
export { FaultInjector, failEvery, failNever, failNth, failProbability } from './fault.js'
export { GfpMasks } from './gfp.js'
export { gfpflagsAllowBlocking, gfpParse, gfpText } from './gfp-mem.js'
export type { IterType } from './iov-iter.js'
export {
  copyFromIter,
  copyFromIterFull,
  copyPageFromIter,
  copyPageToIter,
  copyToIter,
  IovIter,
  ITER_BVEC,
  ITER_IOVEC,
  ITER_KVEC,
  ITER_UBUF,
  iovIterAdvance,
  iovIterBvec,
  iovIterCount,
  iovIterGetPages2,
  iovIterInit,
  iovIterKvec,
  iovIterNpages,
  iovIterReexpand,
  iovIterRevert,
  iovIterSingleSegCount,
  iovIterTruncate,
  iovIterVec,
  iterAddr,
  userBackedIter,
} from './iov-iter.js'
export {
  KMALLOC_MAX_CACHE_SIZE,
  KMALLOC_MAX_SIZE,
  KMALLOC_SIZES,
  kfree,
  kmalloc,
  kmallocCacheName,
  kmallocNode,
  kmallocSizeRoundup,
  kmallocSlab,
  ksize,
  kzalloc,
  ZERO_SIZE_PTR,
} from './kmalloc.js'
export type { KmemCacheArgs } from './kmem-cache.js'
export {
  KmemCache,
  kmemCacheCreate,
  kmemCacheObjAddr,
  kmemCacheObjAt,
  kmemCacheObjOf,
  kmemCacheSize,
} from './kmem-cache.js'
export type { LiveAllocation } from './leaks.js'
export { AllocTracker, leakReport, trackAllocations } from './leaks.js'
export type { MemoryParams } from './memory.js'
export { Memory } from './memory.js'
export { setMinFreeKbytes } from './min-free.js'
export {
  compoundHead,
  compoundOrder,
  getPage,
  offsetInPage,
  Pages,
  PG_HEAD,
  PG_LRU,
  PG_PFMEMALLOC,
  pageAddress,
  pageCount,
  pageIsPfmemalloc,
  pageRefAdd,
  pageRefSubAndTest,
  pageSize,
  setPageCount,
  virtToPfn,
} from './pages.js'
export { drainAllPages } from './pcp.js'
export type { SlabCore } from './slab-core.js'
export { kmemCacheDestroy, kmemCacheShrink } from './slab-destroy.js'
export {
  SLAB_ACCOUNT,
  SLAB_CACHE_DMA,
  SLAB_CACHE_DMA32,
  SLAB_HWCACHE_ALIGN,
  SLAB_NO_MERGE,
  SLAB_PANIC,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_TYPESAFE_BY_RCU,
} from './slab-geometry.js'
export {
  kmemCacheAlloc,
  kmemCacheAllocNode,
  kmemCacheAllocObj,
  kmemCacheFree,
  kmemCacheFreeObj,
  kmemCacheZalloc,
  NO_OBJ,
} from './slub.js'
export { kmemCacheAllocBulk, kmemCacheAllocObjBulk, kmemCacheFreeBulk, kmemCacheFreeObjBulk } from './slub-bulk.js'
export type { BuddyInfo, NumaStats, SlabInfo, ZoneInfo } from './stats.js'
export {
  buddyInfo,
  kmemCacheInuse,
  nrFreeBufferPages,
  nrFreePages,
  nrPcpPages,
  slabInfo,
  totalramPages,
  vmStat,
  zoneInfo,
} from './stats.js'
export type { UserBuffer } from './user-buffer.js'
export { getUserPages, userAddr, userAlloc, userFree, userMap, userRead, userWrite } from './user-buffer.js'
export { checkHeapObject } from './usercopy.js'
export type { NumaNode } from './zone.js'
export { setZoneFlags, ZONE_RECLAIM_ACTIVE, Zone } from './zone.js'
export {
  getOrder,
  MAX_PAGE_ORDER,
  NUMA_NO_NODE,
  PAGE_ALLOC_COSTLY_ORDER,
  PAGE_SHIFT,
  PAGE_SIZE,
} from './zone-types.js'
