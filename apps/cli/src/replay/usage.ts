/**
 * How much memory is where: slab objects, pages of the receive pool, other pages, and what sockets are charged
 * with. Taken as differences from the machine at rest, so that what the kernel needs anyway does not count.
 */

import type { Kernel } from '@netmem/kernel-model'
import {
  type KmemCache,
  kmemCacheInuse,
  type Memory,
  nrFreePages,
  nrPcpPages,
  type SlabCore,
  totalramPages,
} from '@netmem/memory'
import type { Machine } from './machine.js'
import type { Programs } from './programs.js'

/** Kinds in the order of the report, with what each is. */
export const KINDS = [
  'skb heads',
  'packet data',
  'page frags',
  'receive ring',
  'sockets',
  'all together',
  'socket charge',
] as const
export const KINDS_ABOUT: readonly string[] = [
  'struct sk_buff',
  'heads on slab (kmalloc, small)',
  'pages that sends fill',
  'page pool, also where queued',
  'struct sock and the like',
  'memory in use for the network',
  'truesize queued for programs',
]
const ALL = 5
export const CHARGE = 6
const PAGE_BYTES = 4096

/** Slab bytes by what they are for, and pages by who holds them. */
export class Usage {
  readonly values = new Float64Array(KINDS.length)
  private readonly heads: SlabCore[]
  private readonly data: SlabCore[]
  private readonly others: SlabCore[]
  private readonly base = new Float64Array(KINDS.length)

  constructor(
    private readonly kernel: Kernel,
    private readonly machine: Machine,
  ) {
    const { mem, skbs } = kernel
    this.heads = unique([skbs.skbuffCache, skbs.fcloneCache])
    const isData = (name: string): boolean => name.startsWith('kmalloc-') || name === 'skbuff_small_head'
    const cores = mem.slabCores.filter((core): core is SlabCore => core !== null)
    this.data = cores.filter((core) => isData(core.name) && !this.heads.includes(core))
    this.others = cores.filter((core) => !this.data.includes(core) && !this.heads.includes(core))
  }

  /** The machine as it is now is what everything is compared with. */
  rest(programs: Programs): void {
    this.base.fill(0)
    this.measure(programs)
    this.base.set(this.values)
    // The ring's pages are what the card needs: they count from the start.
    this.base[ALL] = 0
  }

  /** Looks at everything; takes microseconds. */
  measure(programs: Programs): Float64Array {
    const { values, base } = this
    const { mem } = this.kernel
    let slabPages = 0
    let used = 0
    for (const core of this.heads) {
      used += kmemCacheInuse(core) * core.size
      slabPages += pagesOf(core)
    }
    values[0] = used - base[0]
    used = 0
    for (const core of this.data) {
      used += kmemCacheInuse(core) * core.size
      slabPages += pagesOf(core)
    }
    values[1] = used - base[1]
    used = 0
    for (const core of this.others) {
      used += kmemCacheInuse(core) * core.size
      slabPages += pagesOf(core)
    }
    values[4] = used - base[4]
    const pool = this.poolPages() * PAGE_BYTES
    const taken = (usedPages(mem) - slabPages) * PAGE_BYTES - pool - programs.userBytes
    values[2] = taken - base[2]
    values[3] = pool
    values[ALL] = values[0] + values[1] + values[2] + values[3] + values[4]
    values[CHARGE] = programs.rmem
    return values
  }

  private poolPages(): number {
    let pages = 0
    for (const pool of this.machine.card.pools) pages += (pool.holdCnt - pool.releaseCnt) >>> 0
    return pages
  }
}

const unique = (caches: readonly KmemCache[]): SlabCore[] => [...new Set(caches.map((cache) => cache.core))]

function pagesOf(core: SlabCore): number {
  let slabs = 0
  for (const count of core.nodeSlabs) slabs += count
  return slabs << core.order
}

const usedPages = (mem: Memory): number => totalramPages(mem) - nrFreePages(mem) - nrPcpPages(mem)
