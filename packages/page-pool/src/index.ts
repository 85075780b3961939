export { pagePoolAllocCached, pagePoolAllocNew, pagePoolStatsPercpu } from './absent.js'
export { pagePoolAllocNetmems, pagePoolAllocPages, pagePoolDevAllocPages } from './alloc.js'
export { pagePoolCreate, pagePoolCreatePercpu } from './create.js'
export {
  DescRing,
  descRingConsume,
  descRingConsumeBulk,
  descRingConsumeBurst,
  descRingCount,
  descRingProduce,
  descRingProduceBulk,
} from './desc-ring.js'
export type { PagePoolsParams } from './destroy.js'
export {
  NETDEV_GONE,
  pagePoolCheckMemoryProvider,
  pagePoolDestroy,
  pagePoolDisableDirectRecycling,
  pagePoolEnableDirectRecycling,
  pagePoolNidChanged,
  pagePoolsInit,
  pagePoolUnregNetdev,
  pagePoolUpdateNid,
  pagePoolUseXdpMem,
} from './destroy.js'
export { pagePoolDmaSyncForCpu, pagePoolDmaSyncForDevice } from './dma-map.js'
export { pagePoolAlloc, pagePoolAllocFrag, pagePoolAllocFragNetmem, pagePoolAllocVa } from './frag.js'
export { pagePoolInflight } from './inflight.js'
export type { NetIovs } from './net-iov.js'
export { netIovAreaCreate, netIovToNetmem, netMpNiovSetDmaAddr, netmemToNetIov } from './net-iov.js'
export type { PagePoolInfo } from './netlink.js'
export { netdevNlPagePoolGet, netdevNlPagePoolStatsGet } from './netlink.js'
export type { PageInFlight } from './owners.js'
export { pagePoolHoldersReport, pagePoolRegisterHolders, pagePoolTrackHolders } from './owners.js'
export { netMpNiovClearPagePool, netMpNiovSetPagePool, netmemGetPp, pagePoolGetDmaAddr } from './pp-info.js'
export {
  PtrRing,
  ptrRingConsume,
  ptrRingConsumeBatched,
  ptrRingCount,
  ptrRingEmpty,
  ptrRingForEach,
  ptrRingProduce,
} from './ptr-ring.js'
export {
  napiPpPutPage,
  pagePoolFragmentNetmem,
  pagePoolNapiLocal,
  pagePoolPutFullNetmem,
  pagePoolPutFullPage,
  pagePoolPutNetmemBulk,
  pagePoolPutPage,
  pagePoolPutUnrefedNetmem,
  pagePoolPutUnrefedPage,
  pagePoolRecycleDirect,
  pagePoolRefNetmem,
  pagePoolReturnSkbPage,
  pagePoolUnrefAndTest,
  pagePoolUnrefNetmem,
} from './put.js'
export { pagePoolReleasePage } from './return.js'
export {
  pagePoolEthtoolStatsGet,
  pagePoolEthtoolStatsGetCount,
  pagePoolEthtoolStatsGetStrings,
  pagePoolGetStats,
} from './stats.js'
export type {
  HolderWalk,
  MemoryProvider,
  MemoryProviderOps,
  Netmem,
  PageHolder,
  PagePool,
  PagePoolNapi,
  PagePoolParams,
  PagePoolStats,
  PagePools,
} from './types.js'
export {
  BIAS_MAX,
  netmemIsNetIov,
  netmemToPage,
  PP_ALLOC_CACHE_REFILL,
  PP_ALLOC_CACHE_SIZE,
  PP_FLAG_ALLOW_UNREADABLE_NETMEM,
  PP_FLAG_DMA_MAP,
  PP_FLAG_DMA_SYNC_DEV,
  PP_FLAG_PAGE_FRAG,
  PP_FLAG_SYSTEM_POOL,
} from './types.js'
