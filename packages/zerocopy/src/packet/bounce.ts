/**
 * Frames in blocks whose pages are no neighbours. Such a frame is filled in a place in one piece and then spread over its
 * pages. Differs: the kernel has a virtual address for the block; here it takes a copy of the frame, not counted as one.
 */
import { type Addr, type Cpu, type Gfp, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, freePages, type Memory } from '@netmem/memory'
import { type PacketRing, pgvAddr } from './packet-ring.js'
import type { PacketSock } from './packet-sock.js'

/** Largest frame: an offset of 16 bits and a packet of 17 bits. */
const BOUNCE_ORDER = 6

/** Takes the place. @returns its address, or NULL. */
export function bounceAlloc(mem: Memory, cpu: Cpu): Addr {
  const pfn = allocPages(mem, cpu, (mem.gfp.GFP_KERNEL | mem.gfp.COMP) as Gfp, BOUNCE_ORDER, -1, 'packet_set_ring')
  return (pfn === NO_PFN ? 0 : pfn << 12) as Addr
}

export function bounceFree(mem: Memory, cpu: Cpu, place: Addr): void {
  if (place !== 0) freePages(mem, cpu, (place >>> 12) as Pfn, BOUNCE_ORDER, 'packet_set_ring')
}

/** Brings a frame's bytes to the place: what the kernel does not write must stay. @returns where the frame now starts. */
export function bounceFrame(po: PacketSock, rb: PacketRing, bytes: number): Addr {
  move(po, rb, bytes, false)
  return rb.bounce
}

/** Writes the frame back to its pages. */
export function spreadFrame(po: PacketSock, rb: PacketRing, bytes: number): void {
  move(po, rb, bytes, true)
}

function move(po: PacketSock, rb: PacketRing, bytes: number, back: boolean): void {
  const { u8 } = po.env.mem
  const bounce = rb.bounce >>> 0
  for (let done = 0; done < bytes; ) {
    const page = pgvAddr(rb.vec!, rb.block, rb.offset + done) >>> 0
    const chunk = Math.min(bytes - done, 4096 - (page & 4095))
    if (back) u8.copyWithin(page, bounce + done, bounce + done + chunk)
    else u8.copyWithin(bounce + done, page, page + chunk)
    done += chunk
  }
}
