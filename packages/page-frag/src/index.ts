export {
  FragCaches,
  fragCachesCreate,
  napiAllocFrag,
  napiAllocFragAlign,
  netdevAllocFrag,
  netdevAllocFragAlign,
} from './frag-caches.js'
export type { SkPageFragOps } from './page-frag.js'
export {
  PageFrag,
  pageFragRelease,
  SK_PAGE_FRAG_BYTES,
  SKB_FRAG_PAGE_ORDER,
  skbPageFragRefill,
  skPageFragRefill,
} from './page-frag.js'
export {
  PAGE_FRAG_CACHE_MAX_ORDER,
  PAGE_FRAG_CACHE_MAX_SIZE,
  PageFragCache,
  pageFragAlloc,
  pageFragAllocAlign,
  pageFragAllocSlow,
  pageFragCacheCreate,
  pageFragCacheDrain,
  pageFragCacheForget,
  pageFragCacheRefill,
  pageFragFree,
  skbFreeFrag,
} from './page-frag-cache.js'
