/** Small coherent blocks, such as single descriptors: cut from coherent pages, never across a boundary. */
import { type Addr, assert, type Cpu, type DmaAddr, type Gfp, NULL } from '@netmem/base'
import { dmaAllocCoherent, dmaFreeCoherent } from './coherent.js'
import type { Device } from './device.js'
import type { DmaHandle } from './types.js'

/** Models `struct dma_page`: one coherent unit cut into blocks. */
interface DmaPage {
  readonly addr: Addr
  readonly dma: DmaAddr
  inUse: number
}

/**
 * Models `struct dma_pool` (mm/dmapool.c). Blocks lent + blocks on the free list = blocks of all pages. The free list
 * is last in, first out; new pages append their blocks in address order.
 */
export class DmaPool {
  readonly pages: DmaPage[] = []
  readonly free: number[] = []
  readonly live = new Map<number, DmaPage>()
  nrBlocks = 0
  nrActive = 0
  destroyed = false

  constructor(
    readonly name: string,
    readonly dev: Device,
    /** Bytes per block, rounded up to the alignment. */
    readonly size: number,
    /** Bytes per coherent unit. */
    readonly allocation: number,
    readonly boundary: number,
  ) {}
}

const INT_MAX = 0x7fffffff

/**
 * Models `dma_pool_create`.
 *
 * @param align power of two, 0 for 1. @param boundary power of two that no block crosses, 0 for none.
 * @returns null when an argument makes no sense.
 */
export function dmaPoolCreate(
  name: string,
  dev: Device,
  size: number,
  align: number,
  boundary: number,
): DmaPool | null {
  const isPow2 = (n: number): boolean => n > 0 && 2 ** Math.round(Math.log2(n)) === n
  const alignment = align === 0 ? 1 : align
  if (!isPow2(alignment) || size <= 0 || size > INT_MAX) return null
  // A free block holds its own link; before the list was kept inside blocks, an offset was enough.
  const least = dev.env.profile.features.dmaPoolBlockList ? 16 : 4
  const block = Math.ceil(Math.max(size, least) / alignment) * alignment
  const allocation = Math.max(block, dev.env.pageBytes)
  if (boundary !== 0 && (boundary < block || !isPow2(boundary))) return null
  const pool = new DmaPool(name, dev, block, allocation, boundary === 0 ? allocation : Math.min(boundary, allocation))
  dev.pools.push(pool)
  return pool
}

/**
 * Models `dma_pool_alloc`. @param handle receives the device's address.
 * @returns the CPU's address of a block whose bytes are whatever they were; NULL when no page is to be had.
 */
export function dmaPoolAlloc(cpu: Cpu, pool: DmaPool, gfp: Gfp, handle: DmaHandle): Addr {
  assert(!pool.destroyed, 'dma_pool_alloc: the pool is gone')
  if (pool.free.length === 0 && !addPage(cpu, pool, (gfp & ~pool.dev.env.mem.gfp.ZERO) as Gfp, handle)) return NULL
  const addr = pool.free.pop()! as Addr
  const page = pageOf(pool, addr)!
  page.inUse++
  pool.nrActive++
  pool.live.set(addr, page)
  handle.dma = (page.dma + ((addr >>> 0) - (page.addr >>> 0))) as DmaAddr
  return addr
}

/** Models `dma_pool_zalloc`. */
export function dmaPoolZalloc(cpu: Cpu, pool: DmaPool, gfp: Gfp, handle: DmaHandle): Addr {
  const addr = dmaPoolAlloc(cpu, pool, gfp, handle)
  if (addr !== NULL) pool.dev.env.mem.u8.fill(0, addr >>> 0, (addr >>> 0) + pool.size)
  return addr
}

/** Models `dma_pool_free`, with the checks of `CONFIG_DMAPOOL_DEBUG`: a wrong address is logged and ignored. */
export function dmaPoolFree(pool: DmaPool, addr: Addr, dma: DmaAddr): void {
  const page = pool.live.get(addr)
  const { trace } = pool.dev.env
  const hex = (n: number): string => `0x${(n >>> 0).toString(16)}`
  if (page === undefined) {
    const words = pageOf(pool, addr) === undefined ? 'bad vaddr' : 'already free'
    trace.printk?.(
      `${pool.dev.driver} ${pool.dev.name}: dma_pool_free ${pool.name}, ${hex(addr)}/${hex(dma)} (${words})`,
    )
    return
  }
  if (dma - page.dma !== (addr >>> 0) - (page.addr >>> 0)) {
    trace.printk?.(
      `${pool.dev.driver} ${pool.dev.name}: dma_pool_free ${pool.name}, ${hex(addr)} (bad vaddr)/${hex(dma)}`,
    )
    return
  }
  pool.live.delete(addr)
  page.inUse--
  pool.nrActive--
  pool.free.push(addr)
}

/** Models `dma_pool_destroy`: pages with live blocks are logged and left behind. */
export function dmaPoolDestroy(cpu: Cpu, pool: DmaPool | null): void {
  if (pool === null || pool.destroyed) return
  pool.destroyed = true
  const { dev } = pool
  dev.pools.splice(dev.pools.indexOf(pool), 1)
  if (pool.nrActive > 0) dev.env.trace.printk?.(`${dev.driver} ${dev.name}: dma_pool_destroy ${pool.name} busy`)
  for (const page of pool.pages) {
    if (page.inUse === 0) dmaFreeCoherent(cpu, dev, pool.allocation, page.addr, page.dma, 'dma_pool_destroy')
  }
}

/** Models `pools_show`: the sysfs file `pools` of a device. */
export function dmaPoolsShow(dev: Device): string {
  const line = (pool: DmaPool): string =>
    `${pool.name.padEnd(16)} ${String(pool.nrActive).padStart(4)} ${String(pool.nrBlocks).padStart(4)} ` +
    `${String(pool.size).padStart(4)} ${String(pool.pages.length).padStart(2)}\n`
  return `poolinfo - 0.1\n${dev.pools.map(line).join('')}`
}

function addPage(cpu: Cpu, pool: DmaPool, gfp: Gfp, handle: DmaHandle): boolean {
  const addr = dmaAllocCoherent(cpu, pool.dev, pool.allocation, handle, gfp, 'pool_alloc_page')
  if (addr === NULL) return false
  pool.pages.push({ addr, dma: handle.dma, inUse: 0 })
  const blocks: number[] = []
  let next = pool.boundary
  for (let offset = 0; offset + pool.size <= pool.allocation; ) {
    if (offset + pool.size > next) {
      offset = next
      next += pool.boundary
      continue
    }
    blocks.push((addr + offset) | 0)
    offset += pool.size
  }
  pool.nrBlocks += blocks.length
  // The list is popped from its end, so the lowest block of the page goes last.
  for (const block of blocks.reverse()) pool.free.push(block)
  return true
}

const pageOf = (pool: DmaPool, addr: Addr): DmaPage | undefined =>
  pool.pages.find((page) => addr >>> 0 >= page.addr >>> 0 && addr >>> 0 < (page.addr >>> 0) + pool.allocation)
