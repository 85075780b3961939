/**
 * `struct page_counter`: pages used by a memory group and all groups below it, with a limit.
 */

/** Larger than any limit: a counter that limits nothing. */
export const PAGE_COUNTER_MAX = Number.MAX_SAFE_INTEGER

/** Models `struct page_counter`. All numbers are pages. */
export class PageCounter {
  usage = 0
  max = PAGE_COUNTER_MAX
  /** The highest `usage` so far. */
  watermark = 0
  failcnt = 0

  /** @param trackFailcnt whether refusals are counted; newer kernels count them for some counters only. */
  constructor(
    readonly parent: PageCounter | null,
    readonly trackFailcnt: boolean,
  ) {}
}

/** Models `page_counter_charge`: charges this counter and all above it, limits or no limits. */
export function pageCounterCharge(counter: PageCounter, pages: number): void {
  for (let c: PageCounter | null = counter; c !== null; c = c.parent) {
    c.usage += pages
    if (c.usage > c.watermark) c.watermark = c.usage
  }
}

/**
 * Models `page_counter_try_charge` (mm/page_counter.c).
 *
 * @returns null when charged all the way up, else the counter whose limit refused; then nothing is charged.
 */
export function pageCounterTryCharge(counter: PageCounter, pages: number): PageCounter | null {
  for (let c: PageCounter | null = counter; c !== null; c = c.parent) {
    if (c.usage + pages > c.max) {
      if (c.trackFailcnt) c.failcnt += 1
      for (let undo = counter; undo !== c; undo = undo.parent as PageCounter) undo.usage -= pages
      return c
    }
    c.usage += pages
    if (c.usage > c.watermark) c.watermark = c.usage
  }
  return null
}

/** Models `page_counter_uncharge`. */
export function pageCounterUncharge(counter: PageCounter, pages: number): void {
  for (let c: PageCounter | null = counter; c !== null; c = c.parent) c.usage -= pages
}
