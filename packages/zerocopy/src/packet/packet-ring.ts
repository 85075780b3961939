/**
 * Rings of packet sockets as memory: blocks of pages that kernel and user share, and where a frame or a block
 * is in them. Bytes are real; what a program writes there is what the kernel reads.
 *
 * Invariant: a block has one reference of the ring on its pages, and one per page for each area that maps it.
 */
import type { Addr } from '@netmem/base'

/** Models `struct pgv[]`: the blocks of one ring. */
export class PgVec {
  /** Address of each block; 0 where its pages are no neighbours. */
  readonly blocks: Int32Array
  /** Pages of the blocks that `vmalloc` put together from single ones, by block; null for a block in one piece. */
  readonly pages: (Int32Array | null)[]
  /** True when some block is not in one piece: its frames are filled elsewhere and then spread. */
  scattered = false
  /** The table itself, as the allocator sees it. */
  table = 0 as Addr

  constructor(
    count: number,
    /** Bytes of one block. */
    readonly blockBytes: number,
    readonly order: number,
  ) {
    this.blocks = new Int32Array(count)
    this.pages = new Array<Int32Array | null>(count).fill(null)
  }
}

/** Models `pgv_to_page` and `page_address`: where a byte of a block is. */
export function pgvAddr(vec: PgVec, block: number, offset: number): Addr {
  const pages = vec.pages[block]!
  if (pages === null) return ((vec.blocks[block]! + offset) | 0) as Addr
  return ((pages[offset >>> 12]! << 12) | (offset & 4095)) as Addr
}

/** Models `struct tpacket_kbdq_core`: the block queue of a V3 receive ring. */
export class KbdqCore {
  /** The block that is being filled, and where in it the next packet goes, in bytes. */
  kactiveBlkNum = 0
  nxtOffset = 0
  /** The packet filled last, in bytes from the start of the block. */
  prev = 0
  /** Address of the block being filled; 0 when it is not in one piece. */
  pkblkStart = 0
  /** Models `reset_pending_on_curr_blk`: the queue waits for the user to give the next block back. */
  frozen = false
  /** Sequence numbers start at 1 and are 64 bits wide; a double counts far enough. */
  nxtSeqNum = 1
  lastKactiveBlkNum = 0
  /** Word of the status of the block a quarter of the ring ahead, which says whether there is room to spare. */
  aheadStatusWord = 0
  /** Nothing but the packet and its header is asked for. */
  readonly plain: boolean
  /** The retire timer's event, 0 none. */
  timer = 0

  constructor(
    readonly knumBlocks: number,
    readonly kblkSize: number,
    readonly blkSizeofPriv: number,
    readonly maxFrameLen: number,
    /** Milliseconds after which a block with packets is given to the user. */
    readonly retireBlkTov: number,
    readonly featureReqWord: number,
  ) {
    this.plain = featureReqWord === 0
  }
}

/** Models `struct packet_ring_buffer`. */
export class PacketRing {
  vec: PgVec | null = null
  /** Block queue of V3 receive rings. */
  kbdq: KbdqCore | null = null
  head = 0
  /** Frames without the last one: positions are `[0, frameMax]`. */
  frameMax = 0
  frameSize = 0
  framesPerBlock = 0
  pgVecLen = 0
  /** Pages of one block. */
  pgVecPages = 0
  /** The bitmap of frames being filled, as the allocator sees it; on one CPU at a time none is ever seen set. */
  ownerMap = 0 as Addr
  /** A frame that is marked as being filled for ever; -1 none. See `tpacketRcv`. */
  stuck = -1
  /** Models `pending_refcnt`: frames whose packets are on their way. */
  pending = 0
  /** The slot found last (`framePosition`): its block, and its start in it in bytes. */
  block = 0
  offset = 0
  /** Where the data of the transmit frame found last begins, in bytes from its start. */
  dataOffset = 0
  /** A contiguous place where frames of scattered blocks are filled; 0 when there are none. */
  bounce = 0 as Addr
}

/** Models `packet_increment_head`. */
export function packetIncrementHead(rb: PacketRing): void {
  rb.head = rb.head !== rb.frameMax ? rb.head + 1 : 0
}
