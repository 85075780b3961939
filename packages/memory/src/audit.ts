/**
 * Walks all of memory and proves: every page is in exactly one place, free blocks are merged as far as they go,
 * and the counters say what the lists hold. Throws an Error with words at the first thing that is wrong.
 */
import { auditSlab } from './audit-slab.js'
import type { Memory } from './memory.js'
import { PG_BUDDY, PG_HEAD, PG_PCP, PG_RESERVED } from './pages.js'
import { pindexToOrder } from './pcp.js'
import { NR_PCP_LISTS, pcpListLength } from './per-cpu-pages.js'
import type { Zone } from './zone.js'
import { MAX_PAGE_ORDER, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_TYPES, NR_PAGE_ORDERS } from './zone-types.js'

const FREE = 1
const PCP = 2

/** @throws Error naming the first broken law. */
export function auditMemory(mem: Memory): void {
  const place = new Uint8Array(mem.pages.count)
  for (const zone of mem.zones) auditZone(mem, zone, place)
  auditFrames(mem, place)
  for (const core of mem.slabCores) if (core !== null) auditSlab(core)
}

function fail(words: string): never {
  throw new Error(`audit of memory: ${words}`)
}

function auditZone(mem: Memory, zone: Zone, place: Uint8Array): void {
  const { pages } = mem
  const name = `zone ${zone.index}`
  let free = 0
  let highatomic = 0
  for (let order = 0; order < NR_PAGE_ORDERS; order++)
    for (let type = 0; type < MIGRATE_TYPES; type++) {
      const list = order * MIGRATE_TYPES + type
      let blocks = 0
      let before = 0
      for (let pfn = zone.freeHead[list]!; pfn !== 0; pfn = pages.next[pfn]!) {
        const what = `free block ${pfn} of order ${order}`
        if ((pfn & ((1 << order) - 1)) !== 0) fail(`${what} is not aligned`)
        if (pfn < zone.startPfn || pfn + (1 << order) > zone.endPfn) fail(`${what} is outside ${name}`)
        if (pages.flags[pfn] !== PG_BUDDY || pages.order[pfn] !== order) fail(`${what} is not marked as one`)
        if ((pages.block[pfn >>> 9]! & 7) !== type) fail(`${what} is on the list of another type`)
        if (pages.prev[pfn] !== before) fail(`${what} has a wrong back link`)
        if (order < MAX_PAGE_ORDER && isMergeable(mem, zone, pfn, order)) fail(`${what} and its buddy are both free`)
        mark(place, pfn, 1 << order, FREE)
        for (let page = pfn; page < pfn + (1 << order); page++)
          if (pages.refcount[page] !== 0) fail(`page ${page} is free and has references`)
        blocks++
        before = pfn
      }
      if (zone.freeTail[list] !== before) fail(`${name}: list of order ${order} type ${type} has a wrong end`)
      if (zone.freeCount[list] !== blocks) fail(`${name}: counts ${zone.freeCount[list]} blocks and has ${blocks}`)
      if (type !== MIGRATE_ISOLATE) free += blocks << order
      if (type === MIGRATE_HIGHATOMIC) highatomic += blocks << order
    }
  if (zone.free !== free) fail(`${name} counts ${zone.free} free pages and has ${free}`)
  if (zone.freeHighatomic !== highatomic)
    fail(`${name} counts ${zone.freeHighatomic} highatomic pages, has ${highatomic}`)
  for (let cpu = 0; cpu < zone.pcp.length; cpu++) auditPcp(mem, zone, cpu, place)
}

/** Two buddies of ordinary type, or of the same one, must not both be free. */
function isMergeable({ pages }: Memory, zone: Zone, pfn: number, order: number): boolean {
  const buddy = pfn ^ (1 << order)
  if (pages.flags[buddy] !== PG_BUDDY || pages.order[buddy] !== order) return false
  if (pages.blockZone[buddy >>> 9] !== zone.index) return false
  const own = pages.block[pfn >>> 9]! & 7
  const other = pages.block[buddy >>> 9]! & 7
  return own === other || (own < 3 && other < 3)
}

function auditPcp({ pages }: Memory, zone: Zone, cpu: number, place: Uint8Array): void {
  const pcp = zone.pcp[cpu]!
  let count = 0
  for (let index = 0; index < NR_PCP_LISTS; index++) {
    const order = pindexToOrder(index)
    const list = pcp.lists[index]!
    for (let at = 0; at < pcpListLength(list); at++) {
      const pfn = list.ring[(list.bottom + at) & list.mask]!
      if (pages.refcount[pfn] !== 0) fail(`page ${pfn} is on a list of CPU ${cpu} and has references`)
      if (pages.order[pfn] !== order) fail(`page ${pfn} is on a list of another order`)
      const flags = pages.flags[pfn]!
      if ((flags & ~PG_HEAD) !== (__ASSERT__ ? PG_PCP : 0)) fail(`page ${pfn} is on a list of CPU ${cpu} and has flags`)
      for (let page = pfn; page < pfn + (1 << order); page++)
        if (pages.head[page] !== ((flags & PG_HEAD) !== 0 ? pfn : page))
          fail(`page ${page} has head ${pages.head[page]}`)
      if (pages.blockZone[pfn >>> 9] !== zone.index) fail(`page ${pfn} is on a list of another zone`)
      mark(place, pfn, 1 << order, PCP)
      count += 1 << order
    }
  }
  if (count !== pcp.count) fail(`CPU ${cpu} counts ${pcp.count} pages in zone ${zone.index} and has ${count}`)
}

function mark(place: Uint8Array, pfn: number, count: number, what: number): void {
  for (let page = pfn; page < pfn + count; page++) {
    if (place[page] !== 0) fail(`page ${page} is in two places`)
    place[page] = what
  }
}

/** What is on no list is handed out: it has references and no list's mark. */
function auditFrames({ pages, zones }: Memory, place: Uint8Array): void {
  for (const zone of zones) {
    let listed = 0
    let lent = 0
    for (let pfn = zone.startPfn; pfn < zone.endPfn; ) {
      const flags = pages.flags[pfn]!
      if (place[pfn] !== 0) {
        listed++
        pfn++
        continue
      }
      if ((flags & PG_RESERVED) !== 0) {
        pfn++
        continue
      }
      if (pages.refcount[pfn]! <= 0) fail(`page ${pfn} is handed out and has ${pages.refcount[pfn]} references`)
      if ((flags & (PG_BUDDY | PG_PCP)) !== 0) fail(`page ${pfn} is handed out and marked as free`)
      const count = 1 << pages.order[pfn]!
      for (let page = pfn; page < pfn + count; page++) {
        const head = (flags & PG_HEAD) !== 0 ? pfn : page
        if (pages.head[page] !== head) fail(`page ${page} of block ${pfn} has head ${pages.head[page]}`)
        if (place[page] !== 0) fail(`page ${page} of block ${pfn} is on a list`)
      }
      lent += count
      pfn += count
    }
    if (listed + lent !== zone.managed) fail(`zone ${zone.index} manages ${zone.managed} pages, found ${listed + lent}`)
  }
}
