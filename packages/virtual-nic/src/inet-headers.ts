/**
 * The few header fields of IP, TCP and UDP that offloads read and write. Sums are in memory order, as
 * `csumFold` gives them, so they are stored low byte first.
 */
import type { Addr } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { csumAdd, csumFold, csumPartial } from '@netmem/skbuff'

/** Stores a folded sum: memory order. */
export function tcpWord(dv: DataView, at: number, sum: number): void {
  dv.setUint16(at, sum, true)
}

/** Models `csum_tcpudp_nofold`: the pseudo header's sum. @param nh address of the IP header. */
export function pseudoSum(mem: Memory, nh: number, proto: number, len: number, v6: boolean): number {
  const addrs = csumPartial(mem, (nh + (v6 ? 8 : 12)) as Addr, v6 ? 32 : 8, 0)
  // Protocol and length are summed as big-endian halves, which in memory order have their bytes swapped.
  return csumAdd(csumAdd(addrs, (proto & 0xff) << 8), ((len & 0xff) << 8) | ((len >> 8) & 0xff))
}

/** Writes length and id, and sums the header anew: models `ip_send_check`. */
export function ipv4HeaderWrite(mem: Memory, at: number, len: number, id: number, ihl: number): void {
  const { dv } = mem
  dv.setUint16(at + 2, len & 0xffff)
  dv.setUint16(at + 4, id)
  dv.setUint16(at + 10, 0)
  dv.setUint16(at + 10, csumFold(csumPartial(mem, at as Addr, ihl, 0)), true)
}
