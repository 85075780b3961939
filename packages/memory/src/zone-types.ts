/** Names of zones, migrate types and sizes that the page allocator's files share. */

export const PAGE_SHIFT = 12
export const PAGE_SIZE = 4096

/** Models `MAX_PAGE_ORDER`: the largest block is 4 MiB. */
export const MAX_PAGE_ORDER = 10
export const NR_PAGE_ORDERS = 11
/** Models `pageblock_order`: a page block (2 MiB) is the unit that has a migrate type. */
export const PAGEBLOCK_ORDER = 9
export const PAGEBLOCK_PAGES = 512
/** Models `PAGE_ALLOC_COSTLY_ORDER`: up to it the allocator tries hard and the per-CPU lists serve. */
export const PAGE_ALLOC_COSTLY_ORDER = 3

export const ZONE_DMA = 0
export const ZONE_DMA32 = 1
export const ZONE_NORMAL = 2
/** Zones that a node of this model can have; the kernel's MOVABLE and DEVICE zones stay empty. */
export const MAX_NR_ZONES = 3
export type ZoneType = 0 | 1 | 2
export const ZONE_NAMES = ['DMA', 'DMA32', 'Normal'] as const

export const MIGRATE_UNMOVABLE = 0
export const MIGRATE_MOVABLE = 1
export const MIGRATE_RECLAIMABLE = 2
/** Models `MIGRATE_PCPTYPES`: the types below it have per-CPU lists. */
export const MIGRATE_PCPTYPES = 3
export const MIGRATE_HIGHATOMIC = 3
export const MIGRATE_ISOLATE = 4
export const MIGRATE_TYPES = 5
export type MigrateType = 0 | 1 | 2 | 3 | 4
export const MIGRATE_NAMES = ['Unmovable', 'Movable', 'Reclaimable', 'HighAtomic', 'Isolate'] as const

export const WMARK_MIN = 0
export const WMARK_LOW = 1
export const WMARK_HIGH = 2
export const WMARK_PROMO = 3

export const NUMA_NO_NODE = -1

/** Models `get_order`: the smallest order whose block holds `bytes` (at least 1). */
export const getOrder = (bytes: number): number =>
  bytes <= PAGE_SIZE ? 0 : 32 - Math.clz32((bytes - 1) >>> PAGE_SHIFT)
