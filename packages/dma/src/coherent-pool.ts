/** Memory that belongs to one device, e.g. on the card: its coherent allocations come from there first. */
import { type Addr, assert, type Cpu, type DmaAddr, NULL } from '@netmem/base'
import { type ContiguousRun, releaseContiguous, takeContiguous } from './contiguous.js'
import type { Device } from './device.js'
import type { DmaHandle } from './types.js'

/** Models `struct dma_coherent_mem`: a bitmap of pages, at `phys` for the CPU and at `device` for the device. */
export interface CoherentPool {
  readonly run: ContiguousRun
  readonly phys: number
  readonly device: number
  readonly pages: number
  readonly taken: Uint8Array
}

/** Models `dma_declare_coherent_memory`. @param bytes whole pages. @returns false when memory has no such run. */
export function dmaDeclareCoherentMemory(cpu: Cpu, dev: Device, bytes: number): boolean {
  assert(dev.coherentPool === null, 'dma_declare_coherent_memory: the device has a pool already')
  const { mem, pageBytes } = dev.env
  const pages = Math.ceil(bytes / pageBytes)
  const run = takeContiguous(mem, cpu, pages * pageBytes, 'dma_declare_coherent_memory')
  if (run === null) return false
  const phys = run.first * pageBytes
  dev.coherentPool = { run, phys, device: phys, pages, taken: new Uint8Array(pages) }
  return true
}

/** Models `dma_release_coherent_memory`. */
export function dmaReleaseCoherentMemory(cpu: Cpu, dev: Device): void {
  if (dev.coherentPool === null) return
  assert(!dev.coherentPool.taken.includes(1), 'dma_release_coherent_memory: the pool is in use')
  releaseContiguous(dev.env.mem, cpu, dev.coherentPool.run, 'dma_release_coherent_memory')
  dev.coherentPool = null
}

/**
 * Models `dma_alloc_from_dev_coherent` with `bitmap_find_free_region`: the first free run of the size's order, aligned
 * to it. @returns NULL when the pool is full; the device then gets nothing, for its pool is all that it can reach.
 */
export function allocFromDevCoherent(dev: Device, bytes: number, handle: DmaHandle): Addr {
  const pool = dev.coherentPool!
  const count = regionPages(bytes, dev.env.pageBytes)
  for (let at = 0; at + count <= pool.pages; at += count) {
    if (pool.taken.subarray(at, at + count).includes(1)) continue
    pool.taken.fill(1, at, at + count)
    const offset = at * dev.env.pageBytes
    dev.env.mem.u8.fill(0, pool.phys + offset, pool.phys + offset + bytes)
    handle.dma = (pool.device + offset) as DmaAddr
    return (pool.phys + offset) as Addr
  }
  return NULL
}

/** Models `dma_release_from_dev_coherent`. @returns false when the address is not the pool's; the caller then frees it. */
export function dmaReleaseFromDevCoherent(dev: Device, bytes: number, addr: Addr): boolean {
  const pool = dev.coherentPool
  if (pool === null) return false
  const at = ((addr >>> 0) - pool.phys) / dev.env.pageBytes
  if (at < 0 || at >= pool.pages) return false
  const count = regionPages(bytes, dev.env.pageBytes)
  assert(pool.taken[at] === 1, 'dma_release_from_dev_coherent: freed twice')
  pool.taken.fill(0, at, at + count)
  return true
}

const regionPages = (bytes: number, pageBytes: number): number =>
  2 ** Math.ceil(Math.log2(Math.ceil(bytes / pageBytes)))
