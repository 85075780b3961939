/**
 * The memory of a ring: blocks of contiguous pages where there are any, else pages that `vmalloc` gathers.
 */
import { type Addr, type Cpu, type Gfp, NO_PFN, NULL, type Pfn } from '@netmem/base'
import { allocPages, freePages, kfree, kmalloc, type Memory } from '@netmem/memory'
import { PgVec } from './packet-ring.js'

const SITE = 'packet_set_ring'
const POINTER_BYTES = 8

/**
 * Models `alloc_pg_vec` (net/packet/af_packet.c). @returns null without memory; nothing stays allocated then.
 */
export function allocPgVec(mem: Memory, cpu: Cpu, blockBytes: number, blockNr: number, order: number): PgVec | null {
  const { gfp } = mem
  const table = kmalloc(mem, cpu, blockNr * POINTER_BYTES, (gfp.GFP_KERNEL | gfp.NOWARN | gfp.ZERO) as Gfp, SITE)
  if (table === NULL) return null
  const vec = new PgVec(blockNr, blockBytes, order)
  vec.table = table
  for (let i = 0; i < blockNr; i++) {
    if (allocOnePgVecPage(mem, cpu, vec, i)) continue
    freePgVec(mem, cpu, vec)
    return null
  }
  return vec
}

/** Models `alloc_one_pg_vec_page`: contiguous without trying hard, gathered, contiguous at any price. */
function allocOnePgVecPage(mem: Memory, cpu: Cpu, vec: PgVec, i: number): boolean {
  const { gfp } = mem
  const hard = gfp.GFP_KERNEL | gfp.COMP | gfp.ZERO | gfp.NOWARN
  let pfn = allocPages(mem, cpu, (hard | gfp.NORETRY) as Gfp, vec.order, -1, SITE)
  if (pfn === NO_PFN) {
    const pages = vzallocPages(mem, cpu, 1 << vec.order)
    if (pages !== null) {
      let contiguous = true
      for (let n = 1; n < pages.length; n++) if (pages[n] !== pages[0]! + n) contiguous = false
      vec.pages[i] = pages
      vec.blocks[i] = contiguous ? pages[0]! << 12 : 0
      vec.scattered = true
      return true
    }
    pfn = allocPages(mem, cpu, hard as Gfp, vec.order, -1, SITE)
  }
  if (pfn === NO_PFN) return false
  vec.blocks[i] = pfn << 12
  return true
}

/** Models `vzalloc`: single zeroed pages. Differs: no `vm_struct` and no page tables are allocated. */
function vzallocPages(mem: Memory, cpu: Cpu, count: number): Int32Array | null {
  const pages = new Int32Array(count)
  const mask = (mem.gfp.GFP_KERNEL | mem.gfp.ZERO | mem.gfp.NOWARN) as Gfp
  for (let n = 0; n < count; n++) {
    const pfn = allocPages(mem, cpu, mask, 0, -1, 'vzalloc_noprof')
    if (pfn === NO_PFN) {
      for (let done = 0; done < n; done++) freePages(mem, cpu, pages[done]! as Pfn, 0, 'vfree')
      return null
    }
    pages[n] = pfn
  }
  return pages
}

/** Models `free_pg_vec`: gives the ring's references back; pages that are mapped stay with who mapped them. */
export function freePgVec(mem: Memory, cpu: Cpu, vec: PgVec): void {
  for (let i = 0; i < vec.blocks.length; i++) {
    const pages = vec.pages[i]!
    if (pages !== null) for (const pfn of pages) freePages(mem, cpu, pfn as Pfn, 0, 'vfree')
    else if (vec.blocks[i] !== 0) freePages(mem, cpu, (vec.blocks[i]! >>> 12) as Pfn, vec.order, 'free_pg_vec')
    vec.pages[i] = null
    vec.blocks[i] = 0
  }
  kfree(mem, cpu, vec.table, SITE)
  vec.table = 0 as Addr
}
