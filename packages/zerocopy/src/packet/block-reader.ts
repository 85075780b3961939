/**
 * The program's side of a V3 receive ring: blocks that the kernel has given, the packets in them, and giving them
 * back. Works on the mapped area alone; nothing is copied and nothing is allocated per packet.
 *
 *     while (reader.nextBlock()) {
 *       while (reader.nextPacket()) use(reader.data, reader.snaplen)
 *       reader.releaseBlock()
 *     }
 */
import type { Memory, UserBuffer } from '@netmem/memory'
import { BD, H3, TP_STATUS_KERNEL, TP_STATUS_USER } from './constants.js'

export class TpacketBlockReader {
  /** Address of the packet's first byte: the link header, or without one the packet itself. */
  data = 0
  /** Bytes that were kept of the packet, and that it had. */
  snaplen = 0
  len = 0
  /** `TP_STATUS_*` of the packet. */
  status = 0
  /** Bytes of the packet's link header. */
  maclen = 0
  /** The block that is next, or open. */
  blockIndex = 0
  /** Status of the open block: `TP_STATUS_BLK_TMO`, `TP_STATUS_LOSING`. */
  blockStatus = 0
  private left = 0
  private header = 0
  private next = 0
  private readonly i32: Int32Array
  private readonly starts: Float64Array

  /**
   * @param area what `mmap` gave: the receive ring is its start.
   * @throws RangeError when a block's pages are no neighbours: such a ring must be read page by page.
   */
  constructor(
    mem: Memory,
    area: UserBuffer,
    readonly blockBytes: number,
    readonly blockNr: number,
  ) {
    this.i32 = mem.i32
    this.starts = new Float64Array(blockNr)
    const pages = blockBytes / 4096
    for (let block = 0; block < blockNr; block++) {
      const first = area.pfns[block * pages]!
      for (let page = 1; page < pages; page++)
        if (area.pfns[block * pages + page] !== first + page)
          throw new RangeError(`block ${block} of the ring is not in one piece`)
      this.starts[block] = first * 4096
    }
  }

  /** Opens the next block if the kernel has given it. @returns false when there is none. */
  nextBlock(): boolean {
    const at = this.starts[this.blockIndex]! / 4
    const status = this.i32[at + (BD.status >> 2)]!
    if ((status & TP_STATUS_USER) === 0) return false
    this.blockStatus = status
    this.left = this.i32[at + (BD.numPkts >> 2)]!
    this.header = this.starts[this.blockIndex]! + this.i32[at + (BD.offsetToFirstPkt >> 2)]!
    this.next = 0
    return true
  }

  /** Moves to the next packet of the open block. @returns false at its end. */
  nextPacket(): boolean {
    if (this.left === 0) return false
    this.left -= 1
    const { i32 } = this
    const h = this.header + this.next
    this.header = h
    const at = h >>> 2
    this.next = i32[at]!
    this.snaplen = i32[at + (H3.snaplen >> 2)]!
    this.len = i32[at + (H3.len >> 2)]!
    this.status = i32[at + (H3.status >> 2)]!
    const offsets = i32[at + (H3.mac >> 2)]!
    const mac = offsets & 0xffff
    this.maclen = (offsets >>> 16) - mac
    this.data = h + mac
    return true
  }

  /** Gives the open block back to the kernel. */
  releaseBlock(): void {
    this.i32[this.starts[this.blockIndex]! / 4 + (BD.status >> 2)] = TP_STATUS_KERNEL
    this.blockIndex = this.blockIndex + 1 === this.blockNr ? 0 : this.blockIndex + 1
    this.left = 0
  }
}
