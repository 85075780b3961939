/**
 * Freed device addresses kept for the next mapping of the same size: per CPU two magazines for each power of two of
 * pages up to 32, and a depot of full ones between the CPUs. What rests here is still in the domain's list.
 */
import { type Addr, type Cpu, NULL } from '@netmem/base'
import { type KmemCache, kmemCacheAlloc, kmemCacheCreate, kmemCacheFree } from '@netmem/memory'
import { allocIova, freeIova, type IovaDomain, roundupPowOfTwo } from './iova.js'

/** Models `IOVA_RANGE_CACHE_MAX_SIZE`: classes 2^0 to 2^5 pages. */
export const IOVA_RANGE_CACHE_MAX_SIZE = 6
/** Models `IOVA_MAG_SIZE`. */
export const IOVA_MAG_SIZE = 127
/** Models `MAX_GLOBAL_MAGS` of kernels whose depot is bounded (feature `iovaDepotTrim` off). */
const MAX_GLOBAL_MAGS = 32
/** Models `IOVA_DEPOT_DELAY`. */
const DEPOT_DELAY_NS = 100e6
const MAGAZINE_BYTES = 1024

/** Models `struct iova_magazine`: entries `[0, size)`. */
interface Magazine {
  readonly pfns: Float64Array
  size: number
  addr: Addr
}

interface Rcache {
  readonly loaded: Magazine[]
  readonly prev: Magazine[]
  readonly depot: Magazine[]
  trimEvent: number
}

/** Models the `rcaches` of `struct iova_domain`. */
export class IovaRcaches {
  readonly classes: Rcache[] = []
  readonly slab: KmemCache
  private readonly trimHandler: number

  /** @throws RangeError when the memory for the first magazines is not there. */
  constructor(readonly iovad: IovaDomain) {
    const { env } = iovad
    this.slab =
      env.mem.kmemCaches.find((cache) => cache.name === 'iommu_iova_magazine') ??
      kmemCacheCreate(env.mem, 'iommu_iova_magazine', MAGAZINE_BYTES)
    const boot = env.cpus[0]!
    for (let i = 0; i < IOVA_RANGE_CACHE_MAX_SIZE; i++) {
      const make = (): Magazine => {
        const magazine = magazineAlloc(this, boot)
        if (magazine === null) throw new RangeError('iommu: no memory for the address caches')
        return magazine
      }
      this.classes.push({ loaded: env.cpus.map(make), prev: env.cpus.map(make), depot: [], trimEvent: 0 })
    }
    this.trimHandler = env.events.register((i) => this.trim(i))
  }

  /** Models `iova_depot_work_func`: every 100 ms one magazine beyond one per CPU goes back to the space. */
  private trim(i: number): void {
    const rcache = this.classes[i]!
    const { env } = this.iovad
    rcache.trimEvent = 0
    if (rcache.depot.length <= env.cpus.length) return
    const magazine = rcache.depot.pop()!
    magazineFreePfns(this, env.cpus[0]!, magazine)
    kmemCacheFree(this.slab, env.cpus[0]!, magazine.addr, 'iova_magazine_free')
    this.scheduleTrim(i)
  }

  scheduleTrim(i: number): void {
    const { events, profile } = this.iovad.env
    const rcache = this.classes[i]!
    if (!profile.features.iovaDepotTrim || rcache.trimEvent !== 0) return
    rcache.trimEvent = events.schedule(events.nowNs + DEPOT_DELAY_NS, this.trimHandler, i)
  }
}

/**
 * Models `alloc_iova_fast`: a cached range of the size's class, else one from the space; when that is full and
 * `flushRcache` is set, everything cached goes back to it for one more try.
 *
 * @returns the first frame, or 0 when there is no room.
 */
export function allocIovaFast(
  cpu: Cpu,
  rcaches: IovaRcaches,
  pages: number,
  limitPfn: number,
  flushRcache: boolean,
): number {
  // A cached range serves any size of its class, so what may be cached is handed out as whole powers of two.
  const size = pages < 1 << (IOVA_RANGE_CACHE_MAX_SIZE - 1) ? roundupPowOfTwo(pages) : pages
  const cached = rcacheGet(cpu, rcaches, size, limitPfn + 1)
  if (cached !== 0) return cached
  const iova = allocIova(cpu, rcaches.iovad, size, limitPfn)
  if (iova !== null) return iova.lo
  if (!flushRcache) return 0
  freeCachedIovas(cpu, rcaches)
  return allocIova(cpu, rcaches.iovad, size, limitPfn)?.lo ?? 0
}

/** Models `free_iova_fast`: into the cache when it takes it, else back to the space. */
export function freeIovaFast(cpu: Cpu, rcaches: IovaRcaches, pfn: number, pages: number): void {
  if (!rcacheInsert(cpu, rcaches, pfn, pages)) freeIova(cpu, rcaches.iovad, pfn)
}

/** Models `free_cpu_cached_iovas` for every CPU and `free_global_cached_iovas`. */
export function freeCachedIovas(cpu: Cpu, rcaches: IovaRcaches): void {
  for (const rcache of rcaches.classes) {
    for (const magazine of [...rcache.loaded, ...rcache.prev]) magazineFreePfns(rcaches, cpu, magazine)
    for (const magazine of rcache.depot.splice(0)) {
      magazineFreePfns(rcaches, cpu, magazine)
      kmemCacheFree(rcaches.slab, cpu, magazine.addr, 'iova_magazine_free')
    }
  }
}

/** Models `free_iova_rcaches`: the magazines themselves go. */
export function freeIovaRcaches(cpu: Cpu, rcaches: IovaRcaches): void {
  freeCachedIovas(cpu, rcaches)
  for (const rcache of rcaches.classes) {
    if (rcache.trimEvent !== 0) rcaches.iovad.env.events.cancel(rcache.trimEvent)
    for (const m of [...rcache.loaded, ...rcache.prev]) kmemCacheFree(rcaches.slab, cpu, m.addr, 'iova_magazine_free')
  }
  rcaches.classes.length = 0
}

const classOf = (pages: number): number => Math.ceil(Math.log2(pages))

/** Models `iova_rcache_get`. */
function rcacheGet(cpu: Cpu, rcaches: IovaRcaches, pages: number, limitPfn: number): number {
  const rcache = rcaches.classes[classOf(pages)]
  if (rcache === undefined) return 0
  const id = cpu.id
  if (rcache.loaded[id]!.size === 0) {
    if (rcache.prev[id]!.size !== 0) swap(rcache, id)
    else {
      const full = rcache.depot.pop()
      if (full === undefined) return 0
      kmemCacheFree(rcaches.slab, cpu, rcache.loaded[id]!.addr, 'iova_magazine_free')
      rcache.loaded[id] = full
    }
  }
  return magazinePop(rcache.loaded[id]!, limitPfn - pages)
}

// The most recent one that ends below the limit; the last entry takes its place.
function magazinePop(magazine: Magazine, limitPfn: number): number {
  const { pfns } = magazine
  for (let i = magazine.size - 1; i >= 0; i--) {
    const pfn = pfns[i]!
    if (pfn > limitPfn) continue
    pfns[i] = pfns[--magazine.size]!
    return pfn
  }
  return 0
}

/** Models `iova_rcache_insert`: false when the class is too large, or no magazine could be had. */
function rcacheInsert(cpu: Cpu, rcaches: IovaRcaches, pfn: number, pages: number): boolean {
  const cls = classOf(pages)
  const rcache = rcaches.classes[cls]
  if (rcache === undefined) return false
  const id = cpu.id
  if (rcache.loaded[id]!.size === IOVA_MAG_SIZE) {
    if (rcache.prev[id]!.size < IOVA_MAG_SIZE) swap(rcache, id)
    else {
      const empty = magazineAlloc(rcaches, cpu)
      if (empty === null) return false
      const full = rcache.loaded[id]!
      rcache.loaded[id] = empty
      if (rcaches.iovad.env.profile.features.iovaDepotTrim || rcache.depot.length < MAX_GLOBAL_MAGS) {
        rcache.depot.push(full)
        rcaches.scheduleTrim(cls)
      } else {
        magazineFreePfns(rcaches, cpu, full)
        kmemCacheFree(rcaches.slab, cpu, full.addr, 'iova_magazine_free')
      }
    }
  }
  const magazine = rcache.loaded[id]!
  magazine.pfns[magazine.size++] = pfn
  return true
}

function swap(rcache: Rcache, id: number): void {
  const magazine = rcache.loaded[id]!
  rcache.loaded[id] = rcache.prev[id]!
  rcache.prev[id] = magazine
}

function magazineAlloc(rcaches: IovaRcaches, cpu: Cpu): Magazine | null {
  const { gfp } = rcaches.iovad.env.mem
  const addr = kmemCacheAlloc(rcaches.slab, cpu, (gfp.GFP_ATOMIC | gfp.NOWARN) as never, 'iova_magazine_alloc')
  return addr === NULL ? null : { pfns: new Float64Array(IOVA_MAG_SIZE), size: 0, addr }
}

function magazineFreePfns(rcaches: IovaRcaches, cpu: Cpu, magazine: Magazine): void {
  for (let i = 0; i < magazine.size; i++) freeIova(cpu, rcaches.iovad, magazine.pfns[i]!)
  magazine.size = 0
}

/** @returns frames that rest in magazines, by starting frame; for audits. */
export function iovaCached(rcaches: IovaRcaches): number[] {
  return rcaches.classes.flatMap(({ loaded, prev, depot }) =>
    [...loaded, ...prev, ...depot].flatMap((magazine) => [...magazine.pfns.subarray(0, magazine.size)]),
  )
}
