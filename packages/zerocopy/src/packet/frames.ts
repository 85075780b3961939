/** Frames of V1, V2 and transmit rings: slots of one size, and the status word by which they change hands. */
import type { Addr } from '@netmem/base'
import { H1, H2, H3, TPACKET_V1, TPACKET_V3 } from './constants.js'
import { type PacketRing, pgvAddr } from './packet-ring.js'
import type { PacketSock } from './packet-sock.js'

/** Where the status word is in a frame, by version, in bytes. */
const STATUS_OFFSET = [H1.status, H2.status, H3.status] as const

/** Models the arithmetic of `packet_lookup_frame`: sets `ring.block` and `ring.offset` to a position's slot. */
export function framePosition(rb: PacketRing, position: number): void {
  const block = Math.floor(position / rb.framesPerBlock)
  rb.block = block
  rb.offset = (position - block * rb.framesPerBlock) * rb.frameSize
}

/** @returns the address of a byte of the slot that `framePosition` found. */
export const frameAddr = (rb: PacketRing, at: number): Addr => pgvAddr(rb.vec!, rb.block, rb.offset + at)

/** Models `__packet_get_status` of that slot: all versions are read as 32-bit words. */
export const frameStatus = (po: PacketSock, rb: PacketRing): number =>
  po.env.mem.i32[frameAddr(rb, STATUS_OFFSET[po.tpVersion as 0 | 1 | 2]) >>> 2]!

/** Models `__packet_set_status` of that slot: V1's word is a `long`, so its sign fills the upper half. */
export function setFrameStatus(po: PacketSock, rb: PacketRing, status: number): void {
  const { i32 } = po.env.mem
  i32[frameAddr(rb, STATUS_OFFSET[po.tpVersion as 0 | 1 | 2]) >>> 2] = status
  if (po.tpVersion === TPACKET_V1) i32[frameAddr(rb, H1.status + 4) >>> 2] = status >> 31
}

/** Writes the time of a frame's packet. V1 counts microseconds. */
export function setFrameTime(po: PacketSock, rb: PacketRing, sec: number, nsec: number): void {
  const { i32 } = po.env.mem
  const at = po.tpVersion === TPACKET_V3 ? H3.sec : po.tpVersion === TPACKET_V1 ? H1.sec : H2.sec
  i32[frameAddr(rb, at) >>> 2] = sec
  i32[frameAddr(rb, at + 4) >>> 2] = po.tpVersion === TPACKET_V1 ? Math.floor(nsec / 1000) : nsec
}
