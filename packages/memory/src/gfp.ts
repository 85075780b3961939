/**
 * Allocation masks. The numbers differ between kernels, so they come from the profile; the names do not.
 * `mem.gfp.NOWARN` is `__GFP_NOWARN`, `mem.gfp.GFP_KERNEL` is `GFP_KERNEL`. A bit that this kernel lacks is 0.
 */
import { assert, type Gfp, type GfpTable } from '@netmem/base'
import { type MigrateType, ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, type ZoneType } from './zone-types.js'

/** Models the `__GFP_*` bits and the `GFP_*` combinations of include/linux/gfp_types.h. */
export class GfpMasks {
  readonly DMA: Gfp
  readonly HIGHMEM: Gfp
  readonly DMA32: Gfp
  readonly MOVABLE: Gfp
  readonly RECLAIMABLE: Gfp
  readonly HIGH: Gfp
  readonly IO: Gfp
  readonly FS: Gfp
  readonly ZERO: Gfp
  /** Models `__GFP_ATOMIC`, removed in 6.3: 0 on the reference kernel. */
  readonly ATOMIC: Gfp
  readonly DIRECT_RECLAIM: Gfp
  readonly KSWAPD_RECLAIM: Gfp
  readonly WRITE: Gfp
  readonly NOWARN: Gfp
  readonly RETRY_MAYFAIL: Gfp
  readonly NOFAIL: Gfp
  readonly NORETRY: Gfp
  readonly MEMALLOC: Gfp
  readonly COMP: Gfp
  readonly NOMEMALLOC: Gfp
  readonly HARDWALL: Gfp
  readonly THISNODE: Gfp
  readonly ACCOUNT: Gfp
  readonly ZEROTAGS: Gfp
  readonly NO_OBJ_EXT: Gfp
  readonly GFP_ATOMIC: Gfp
  readonly GFP_KERNEL: Gfp
  readonly GFP_KERNEL_ACCOUNT: Gfp
  readonly GFP_NOWAIT: Gfp
  readonly GFP_NOIO: Gfp
  readonly GFP_NOFS: Gfp
  readonly GFP_USER: Gfp
  readonly GFP_DMA: Gfp
  readonly GFP_DMA32: Gfp
  readonly GFP_HIGHUSER: Gfp
  readonly GFP_HIGHUSER_MOVABLE: Gfp
  readonly GFP_TRANSHUGE: Gfp
  readonly GFP_TRANSHUGE_LIGHT: Gfp

  /** Written out in full: a copy of the profile's tables would be an object with slow properties. */
  constructor({ bits, masks }: GfpTable) {
    this.DMA = bits.DMA as Gfp
    this.HIGHMEM = bits.HIGHMEM as Gfp
    this.DMA32 = bits.DMA32 as Gfp
    this.MOVABLE = bits.MOVABLE as Gfp
    this.RECLAIMABLE = bits.RECLAIMABLE as Gfp
    this.HIGH = bits.HIGH as Gfp
    this.IO = bits.IO as Gfp
    this.FS = bits.FS as Gfp
    this.ZERO = bits.ZERO as Gfp
    this.ATOMIC = bits.ATOMIC as Gfp
    this.DIRECT_RECLAIM = bits.DIRECT_RECLAIM as Gfp
    this.KSWAPD_RECLAIM = bits.KSWAPD_RECLAIM as Gfp
    this.WRITE = bits.WRITE as Gfp
    this.NOWARN = bits.NOWARN as Gfp
    this.RETRY_MAYFAIL = bits.RETRY_MAYFAIL as Gfp
    this.NOFAIL = bits.NOFAIL as Gfp
    this.NORETRY = bits.NORETRY as Gfp
    this.MEMALLOC = bits.MEMALLOC as Gfp
    this.COMP = bits.COMP as Gfp
    this.NOMEMALLOC = bits.NOMEMALLOC as Gfp
    this.HARDWALL = bits.HARDWALL as Gfp
    this.THISNODE = bits.THISNODE as Gfp
    this.ACCOUNT = bits.ACCOUNT as Gfp
    this.ZEROTAGS = bits.ZEROTAGS as Gfp
    this.NO_OBJ_EXT = bits.NO_OBJ_EXT as Gfp
    this.GFP_ATOMIC = masks.GFP_ATOMIC as Gfp
    this.GFP_KERNEL = masks.GFP_KERNEL as Gfp
    this.GFP_KERNEL_ACCOUNT = masks.GFP_KERNEL_ACCOUNT as Gfp
    this.GFP_NOWAIT = masks.GFP_NOWAIT as Gfp
    this.GFP_NOIO = masks.GFP_NOIO as Gfp
    this.GFP_NOFS = masks.GFP_NOFS as Gfp
    this.GFP_USER = masks.GFP_USER as Gfp
    this.GFP_DMA = masks.GFP_DMA as Gfp
    this.GFP_DMA32 = masks.GFP_DMA32 as Gfp
    this.GFP_HIGHUSER = masks.GFP_HIGHUSER as Gfp
    this.GFP_HIGHUSER_MOVABLE = masks.GFP_HIGHUSER_MOVABLE as Gfp
    this.GFP_TRANSHUGE = masks.GFP_TRANSHUGE as Gfp
    this.GFP_TRANSHUGE_LIGHT = masks.GFP_TRANSHUGE_LIGHT as Gfp
  }
}

/**
 * Models what `gfp_zone` and `gfp_migratetype` compute, as one table: the bits that matter are the low five.
 *
 * @returns indexed by `gfp & 31`: the highest zone in bits 0-1, the migrate type from bit 2.
 */
export function gfpClassTable(gfp: GfpMasks): Uint8Array {
  assert((gfp.DMA | gfp.DMA32 | gfp.MOVABLE | gfp.RECLAIMABLE) < 32, 'zone and mobility bits lie in the low five')
  const table = new Uint8Array(32)
  for (let bits = 0; bits < 32; bits++) {
    const zone: ZoneType = bits & gfp.DMA ? ZONE_DMA : bits & gfp.DMA32 ? ZONE_DMA32 : ZONE_NORMAL
    const type: MigrateType = bits & gfp.RECLAIMABLE ? 2 : bits & gfp.MOVABLE ? 1 : 0
    table[bits] = zone | (type << 2)
  }
  return table
}

/**
 * Models `show_gfp_flags` (include/trace/events/mmflags.h): what a tracepoint prints. Longer names go first
 * and take their bits with them; what no name covers is printed in hexadecimal.
 */
export function gfpFlagsText(table: GfpTable, gfp: number): string {
  if (gfp === 0) return 'none'
  const parts: string[] = []
  let rest = gfp
  for (const name of table.text) {
    if (rest === 0) break
    const mask = gfpNamed(table, name)
    if (mask === 0 || (rest & mask) !== mask) continue
    parts.push(name)
    rest &= ~mask
  }
  if (rest !== 0) parts.push(`0x${(rest >>> 0).toString(16)}`)
  return parts.join('|')
}

function gfpNamed(table: GfpTable, name: string): number {
  if (name === '__GFP_RECLAIM') return table.bits.DIRECT_RECLAIM! | table.bits.KSWAPD_RECLAIM!
  return (name.startsWith('__GFP_') ? table.bits[name.slice(6)] : table.masks[name]) ?? 0
}

/** @returns the mask that a text such as `GFP_KERNEL|__GFP_NOWARN` names. @throws RangeError at an unknown name. */
export function gfpParseTable(table: GfpTable, text: string): Gfp {
  if (text === 'none') return 0 as Gfp
  let gfp = 0
  for (const name of text.split('|')) {
    const known =
      name === '__GFP_RECLAIM' || (name.startsWith('__GFP_') ? name.slice(6) in table.bits : name in table.masks)
    if (!known && !/^0x[0-9a-f]+$/.test(name)) throw new RangeError(`no gfp flag "${name}"`)
    gfp |= known ? gfpNamed(table, name) : Number.parseInt(name, 16)
  }
  return gfp as Gfp
}
