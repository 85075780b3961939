/**
 * User memory: pages of the same physical memory, as an application's buffer would have them. They are single
 * pages with a reference each, so a zero-copy path can hold on to some after the buffer is gone.
 */
import { type Addr, assert, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, freePages, putPage, splitPage } from './alloc-pages.js'
import type { Memory } from './memory.js'
import { getPage, PG_LRU } from './pages.js'
import { getOrder, MAX_PAGE_ORDER, PAGE_SIZE } from './zone-types.js'

/** An application's buffer. */
export interface UserBuffer {
  readonly bytes: number
  readonly pfns: Int32Array
  /** Address of the first byte when all pages are neighbours in physical memory, else 0. */
  readonly base: Addr
  /** Bytes from here on are not mapped: an access faults. Normally `bytes`. */
  mappedBytes: number
}

/** Models the page fault that fills an anonymous mapping; drops whatever pages the site would. */
const FAULT_SITE = 'do_anonymous_page'

/**
 * Allocates user memory of `bytes` (at least 1), zeroed, as contiguous as the free lists allow.
 *
 * @returns null when there is no memory; nothing stays allocated then.
 */
export function userAlloc(mem: Memory, cpu: Cpu, bytes: number): UserBuffer | null {
  assert(Number.isInteger(bytes) && bytes > 0, 'a user buffer has at least one byte')
  const count = Math.ceil(bytes / PAGE_SIZE)
  const pfns = new Int32Array(count)
  let filled = 0
  while (filled < count) {
    const added = addChunk(mem, cpu, pfns, filled, count - filled)
    if (added === 0) {
      for (let i = 0; i < filled; i++) putPage(mem, cpu, pfns[i]! as Pfn, FAULT_SITE)
      return null
    }
    filled += added
  }
  let contiguous = true
  for (let i = 1; i < count; i++) if (pfns[i] !== pfns[0]! + i) contiguous = false
  return { bytes, pfns, base: (contiguous ? pfns[0]! << 12 : 0) as Addr, mappedBytes: bytes }
}

/** Takes the largest block that is useful, splits it and gives the pages that are too many back. */
function addChunk(mem: Memory, cpu: Cpu, pfns: Int32Array, at: number, wanted: number): number {
  const { gfp } = mem
  let order = Math.min(getOrder(wanted * PAGE_SIZE), MAX_PAGE_ORDER)
  let pfn = NO_PFN
  for (; order > 0; order--) {
    pfn = allocPages(mem, cpu, gfp.GFP_TRANSHUGE_LIGHT & ~gfp.COMP, order, -1, FAULT_SITE)
    if (pfn !== NO_PFN) break
  }
  if (pfn === NO_PFN) pfn = allocPages(mem, cpu, gfp.GFP_HIGHUSER_MOVABLE, 0, -1, FAULT_SITE)
  if (pfn === NO_PFN) return 0
  if (order > 0) splitPage(mem, pfn, order)
  const used = Math.min(1 << order, wanted)
  for (let i = 0; i < used; i++) pfns[at + i] = pfn + i
  for (let i = (1 << order) - 1; i >= used; i--) freePages(mem, cpu, (pfn + i) as Pfn, 0, FAULT_SITE)
  for (let i = 0; i < used; i++) mem.pages.flags[pfn + i]! |= PG_LRU
  mem.i32.fill(0, pfn << 10, (pfn + used) << 10)
  return used
}

/**
 * Models `vm_insert_page` over a whole area: the kernel's own pages become user memory too. Takes a reference on each,
 * which `userFree` gives back.
 *
 * @param pfns the pages in the order of the area; kept by the buffer.
 */
export function userMap(mem: Memory, pfns: Int32Array): UserBuffer {
  const bytes = pfns.length * PAGE_SIZE
  let contiguous = true
  for (let i = 0; i < pfns.length; i++) {
    getPage(mem, pfns[i]! as Pfn)
    if (pfns[i] !== pfns[0]! + i) contiguous = false
  }
  return { bytes, pfns, base: (contiguous ? pfns[0]! << 12 : 0) as Addr, mappedBytes: bytes }
}

/** Models `munmap`: drops the buffer's own references; pages that a zero-copy path still holds live on. */
export function userFree(mem: Memory, cpu: Cpu, buffer: UserBuffer): void {
  for (const pfn of buffer.pfns) {
    assert(pfn !== 0, 'user buffer freed twice')
    putPage(mem, cpu, pfn as Pfn, 'zap_present_ptes')
  }
  buffer.pfns.fill(0)
}

/** @returns the address of one byte of the buffer. */
export const userAddr = (buffer: UserBuffer, offset: number): Addr =>
  ((buffer.pfns[offset >>> 12]! << 12) | (offset & 4095)) as Addr

/** Models `get_user_pages_fast`: a reference on each page that `bytes` from `offset` touch. @returns pages, in `out`. */
export function getUserPages(
  mem: Memory,
  buffer: UserBuffer,
  offset: number,
  bytes: number,
  out: Int32Array,
  at: number,
): number {
  const first = offset >>> 12
  const last = (offset + bytes - 1) >>> 12
  for (let page = first; page <= last; page++) {
    getPage(mem, buffer.pfns[page]! as Pfn)
    out[at + page - first] = buffer.pfns[page]!
  }
  return last - first + 1
}

/** The application writes its buffer. */
export function userWrite(mem: Memory, buffer: UserBuffer, offset: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const chunk = Math.min(bytes.length - done, PAGE_SIZE - ((offset + done) & 4095))
    mem.u8.set(bytes.subarray(done, done + chunk), userAddr(buffer, offset + done) >>> 0)
    done += chunk
  }
}

/** The application reads its buffer. */
export function userRead(mem: Memory, buffer: UserBuffer, offset: number, bytes: number): Uint8Array {
  const result = new Uint8Array(bytes)
  for (let done = 0; done < bytes; ) {
    const chunk = Math.min(bytes - done, PAGE_SIZE - ((offset + done) & 4095))
    const from = userAddr(buffer, offset + done) >>> 0
    result.set(mem.u8.subarray(from, from + chunk), done)
    done += chunk
  }
  return result
}
