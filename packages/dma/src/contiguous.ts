/**
 * More contiguous memory than the buddy hands out in one piece, as boot code takes it before the buddy
 * exists: largest blocks are taken until some of them lie in a row, and the others go back.
 */
import type { Cpu, Gfp, Pfn } from '@netmem/base'
import { allocPages, freePages, type Memory } from '@netmem/memory'

/** A run of memory and the blocks that it was taken as; `releaseContiguous` wants them back. */
export interface ContiguousRun {
  readonly first: Pfn
  readonly blocks: readonly Pfn[]
  readonly order: number
}

const MAX_PAGE_ORDER = 10

/** @returns `bytes` of page-aligned memory in a row, or null when there is no such run; then nothing is taken. */
export function takeContiguous(mem: Memory, cpu: Cpu, bytes: number, site: string): ContiguousRun | null {
  const pageBytes = mem.profile.page_size
  const pages = Math.ceil(bytes / pageBytes)
  let order = 0
  while (order < MAX_PAGE_ORDER && 1 << order < pages) order++
  const step = 1 << order
  const need = Math.ceil(pages / step)
  const gfp = (mem.gfp.GFP_KERNEL | mem.gfp.NOWARN | mem.gfp.NORETRY) as Gfp
  const taken = new Set<Pfn>()
  let run: ContiguousRun | null = null
  while (run === null) {
    const pfn = allocPages(mem, cpu, gfp, order, -1, site)
    if (pfn === 0) break
    taken.add(pfn)
    run = runAround(taken, pfn, step, need, order)
  }
  const keep = new Set(run?.blocks ?? [])
  for (const pfn of taken) if (!keep.has(pfn)) freePages(mem, cpu, pfn, order, site)
  return run
}

/** Gives a run back to the buddy. */
export function releaseContiguous(mem: Memory, cpu: Cpu, run: ContiguousRun, site: string): void {
  for (const pfn of run.blocks) freePages(mem, cpu, pfn, run.order, site)
}

function runAround(taken: Set<Pfn>, pfn: Pfn, step: number, need: number, order: number): ContiguousRun | null {
  let low = pfn as number
  while (taken.has((low - step) as Pfn)) low -= step
  let high = pfn as number
  while (taken.has((high + step) as Pfn)) high += step
  if ((high - low) / step + 1 < need) return null
  return { first: low as Pfn, blocks: Array.from({ length: need }, (_, i) => (low + i * step) as Pfn), order }
}
