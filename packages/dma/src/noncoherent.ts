/**
 * Devices that do not snoop. The bytes in `mem.u8` are what the CPU sees through its cache; for pages that such
 * a device has mapped, a second copy says what memory itself holds, and that is what the device reads and writes.
 * A sync moves whole cache lines between the two, as cache maintenance does:
 *
 *     clean        CPU's lines -> memory     (before the device reads)
 *     invalidate   memory -> CPU's lines     (before the CPU reads what the device wrote)
 *
 * Without it the CPU keeps reading stale lines, and an invalidate throws away what the CPU wrote beside the buffer.
 */
import type { Device } from './device.js'
import type { Dma } from './dma.js'

/** What memory holds for one page while some non-snooping device has it mapped. */
interface MemoryPage {
  readonly bytes: Uint8Array
  maps: number
}

/** All pages whose memory contents may differ from the CPU's view. A page is here while it is mapped. */
export class LineCache {
  readonly pages = new Map<number, MemoryPage>()
  cleanedLines = 0
  invalidatedLines = 0
}

/** A non-snooping device maps a range: from now on memory and cache may differ there. */
export function lineMap(env: Dma, phys: number, bytes: number): void {
  env.lines ??= new LineCache()
  const last = (phys + bytes - 1) >>> env.pageShift
  for (let pfn = phys >>> env.pageShift; pfn <= last; pfn++) {
    const page = env.lines.pages.get(pfn)
    if (page !== undefined) page.maps++
    else {
      const at = pfn * env.pageBytes
      env.lines.pages.set(pfn, { bytes: env.mem.u8.slice(at, at + env.pageBytes), maps: 1 })
    }
  }
}

/** The mapping ends. With the last one the CPU's view is all there is: its lines are written back some day. */
export function lineUnmap(env: Dma, phys: number, bytes: number): void {
  if (env.lines === null) return
  const last = (phys + bytes - 1) >>> env.pageShift
  for (let pfn = phys >>> env.pageShift; pfn <= last; pfn++) {
    const page = env.lines.pages.get(pfn)
    if (page !== undefined && --page.maps === 0) env.lines.pages.delete(pfn)
  }
}

/** Models `arch_sync_dma_for_device`: writes the CPU's lines back. */
export function lineClean(env: Dma, phys: number, bytes: number): void {
  if (env.lines === null) return
  env.lines.cleanedLines += eachPage(env, phys, bytes, (page, at, from, to) => {
    page.set(env.mem.u8.subarray(at + from, at + to), from)
  })
}

/** Models `arch_sync_dma_for_cpu`: drops the CPU's lines, so that the next read comes from memory. */
export function lineInvalidate(env: Dma, phys: number, bytes: number): void {
  if (env.lines === null) return
  env.lines.invalidatedLines += eachPage(env, phys, bytes, (page, at, from, to) => {
    env.mem.u8.set(page.subarray(from, to), at + from)
  })
}

/** The device's side of a byte range inside one page: memory's copy if it may differ, else null. */
export function memoryPage(dev: Device, pfn: number): Uint8Array | null {
  if (dev.coherent || dev.env.lines === null) return null
  return dev.env.lines.pages.get(pfn)?.bytes ?? null
}

function eachPage(
  env: Dma,
  phys: number,
  bytes: number,
  move: (page: Uint8Array, pageAt: number, from: number, to: number) => void,
): number {
  const line = env.profile.SMP_CACHE_BYTES
  const begin = Math.floor(phys / line) * line
  const end = Math.ceil((phys + bytes) / line) * line
  for (let at = begin; at < end; ) {
    const pfn = at >>> env.pageShift
    const pageAt = pfn * env.pageBytes
    const stop = Math.min(end, pageAt + env.pageBytes)
    const page = env.lines!.pages.get(pfn)
    if (page !== undefined) move(page.bytes, pageAt, at - pageAt, stop - pageAt)
    at = stop
  }
  return (end - begin) / line
}
