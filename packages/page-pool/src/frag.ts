/**
 * Pieces of pages: several buffers share a page, and the page comes back when the last of them does. While a page is
 * being cut, the pool holds `BIAS_MAX` references and notes how many it has given away; when the page is closed, it
 * drops the difference at once.
 */
import { type Addr, type Cpu, type Gfp, NULL, type Pfn } from '@netmem/base'
import { pageIsPfmemalloc } from '@netmem/memory'
import { pagePoolAllocNetmems } from './alloc.js'
import { pagePoolDmaSyncForDevice } from './dma-map.js'
import { pagePoolFragmentNetmem, pagePoolUnrefNetmem } from './put.js'
import { pagePoolReturnNetmem } from './return.js'
import { statWrapped } from './stats.js'
import { BIAS_MAX, type Netmem, type PagePool, PP_FLAG_PAGE_FRAG, PP_STAT_FAST } from './types.js'

/**
 * Models `page_pool_alloc_frag_netmem` (net/core/page_pool.c). The piece starts `pool.outOffset` bytes into the page.
 *
 * @param bytes rounded up to the DMA cache alignment, which is 1 on x86.
 * @returns the page, on which the caller now holds one reference; 0 when there is none, or when a piece is larger
 *   than a page (with a warning).
 */
export function pagePoolAllocFragNetmem(cpu: Cpu, pool: PagePool, bytes: number, gfp: Gfp): Netmem {
  const max = pool.pageBytes
  const { env } = pool
  const allowed = !env.profile.features.pagePoolFragFlag || (pool.flags & PP_FLAG_PAGE_FRAG) !== 0
  if (bytes > max || !allowed) {
    env.trace.warn?.(
      'page_pool_alloc_frag',
      `pool ${pool.id}: ${bytes} bytes do not fit a page, or the pool has no frags`,
    )
    return 0
  }
  const size = alignFrag(pool, bytes)
  let netmem = pool.fragPage
  let offset = pool.fragOffset
  if (netmem !== 0 && offset + size > max) {
    netmem = pagePoolDrainFrag(cpu, pool, netmem)
    if (netmem !== 0) {
      if (++pool.cache[PP_STAT_FAST]! === 0) statWrapped(pool, PP_STAT_FAST)
      return startFragPage(pool, netmem, size)
    }
  }
  if (netmem === 0) {
    netmem = pagePoolAllocNetmems(cpu, pool, gfp)
    if (netmem === 0) {
      pool.fragPage = 0
      return 0
    }
    pool.fragPage = netmem
    return startFragPage(pool, netmem, size)
  }
  pool.fragUsers++
  pool.outOffset = offset
  offset += size
  pool.fragOffset = offset
  if (++pool.cache[PP_STAT_FAST]! === 0) statWrapped(pool, PP_STAT_FAST)
  return netmem
}

/** Models `page_pool_alloc_frag`. @returns the page, NO_PFN when there is none. See `pagePoolAllocFragNetmem`. */
export function pagePoolAllocFrag(cpu: Cpu, pool: PagePool, bytes: number, gfp: Gfp): Pfn {
  return pagePoolAllocFragNetmem(cpu, pool, bytes, gfp) as Pfn
}

/**
 * Models `page_pool_alloc_netmem` (`page_pool_alloc` of include/net/page_pool/helpers.h): a whole page when two pieces
 * would not fit one, else a piece, and the rest of the page with it when nothing else fits behind.
 *
 * @returns the page; `pool.outOffset` and `pool.outBytes` say which bytes of it are the caller's.
 */
export function pagePoolAlloc(cpu: Cpu, pool: PagePool, bytes: number, gfp: Gfp): Netmem {
  const max = pool.pageBytes
  if (bytes * 2 > max) {
    pool.outBytes = max
    pool.outOffset = 0
    return pagePoolAllocNetmems(cpu, pool, gfp)
  }
  const netmem = pagePoolAllocFragNetmem(cpu, pool, bytes, gfp)
  if (netmem === 0) return 0
  if (pool.fragOffset + bytes > max) {
    pool.outBytes = max - pool.outOffset
    pool.fragOffset = max
  } else pool.outBytes = bytes
  return netmem
}

/** Models `page_pool_alloc_va`: the same as an address. @returns NULL when there is none. */
export function pagePoolAllocVa(cpu: Cpu, pool: PagePool, bytes: number, gfp: Gfp): Addr {
  const netmem = pagePoolAlloc(cpu, pool, bytes, gfp)
  return netmem <= 0 ? NULL : ((netmem * pool.env.profile.page_size + pool.outOffset) as Addr)
}

function startFragPage(pool: PagePool, netmem: Netmem, size: number): Netmem {
  pool.fragUsers = 1
  pool.outOffset = 0
  pool.fragOffset = size
  pagePoolFragmentNetmem(pool, netmem, BIAS_MAX)
  return netmem
}

/** Models `page_pool_drain_frag`: closes the page being cut. @returns it when nobody holds a piece any more, for cutting anew. */
function pagePoolDrainFrag(cpu: Cpu, pool: PagePool, netmem: Netmem): Netmem {
  if (pagePoolUnrefNetmem(pool, netmem, BIAS_MAX - pool.fragUsers) !== 0) return 0
  if (netmem < 0 || (pool.refcount[netmem] === 1 && !pageIsPfmemalloc(pool.env.mem, netmem as Pfn))) {
    pagePoolDmaSyncForDevice(cpu, pool, netmem, -1)
    return netmem
  }
  pagePoolReturnNetmem(cpu, pool, netmem)
  return 0
}

/** Models `page_pool_free_frag`: the pool goes, and with it its share of the page being cut. */
export function pagePoolFreeFrag(cpu: Cpu, pool: PagePool): void {
  const netmem = pool.fragPage
  pool.fragPage = 0
  if (netmem === 0 || pagePoolUnrefNetmem(pool, netmem, BIAS_MAX - pool.fragUsers) !== 0) return
  pagePoolReturnNetmem(cpu, pool, netmem)
}

// Models `dma_get_cache_alignment`: where DMA snoops the caches (x86) pieces may share a line; measured on 6.18.
function alignFrag(pool: PagePool, bytes: number): number {
  const align = pool.env.profile.machine === 'x86_64' ? 1 : pool.env.profile.SMP_CACHE_BYTES
  return Math.ceil(bytes / align) * align
}
