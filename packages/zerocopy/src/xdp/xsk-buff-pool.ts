/**
 * The buffers of one queue of a device: the chunks of an area as receive buffers, the fill ring that they come from and
 * the completion ring that sent ones go to. Sockets on the same queue share one pool; the same area on another queue
 * has a pool of its own.
 *
 * A chunk's buffer is known by its *head*, a small number. In aligned mode head and chunk are the same; in unaligned
 * mode a free head is taken for whatever address the user posts.
 *
 * Law, with an honest user: every chunk is in exactly one of: the user's hands, the fill ring, the free list, a driver,
 * the rx ring, the tx ring or in flight, the completion ring.
 */
import type { NetDevice } from '@netmem/virtual-nic'
import { XDP_PACKET_HEADROOM } from '@netmem/virtual-nic'
import { umemAddr, type XdpUmem } from './xdp-umem.js'
import type { XskDmaMap } from './xsk-dma.js'
import type { XskEnv } from './xsk-env.js'
import type { XskQueue } from './xsk-queue.js'
import type { XdpSock } from './xsk-sock.js'

/** Models `struct xsk_buff_pool` (include/net/xsk_buff_pool.h). */
export class XskBuffPool {
  users = 1
  netdev: NetDevice | null = null
  queueId = 0
  usesNeedWakeup = false
  /** `XDP_WAKEUP_*`: who sleeps, as the ring flags say. */
  cachedNeedWakeup = 0
  /** Sockets that send through this pool, the latest first. */
  readonly xskTxList: XdpSock[] = []

  readonly unaligned: boolean
  readonly chunkSize: number
  readonly chunkShift: number
  readonly headroom: number
  /** Bytes from the start of a chunk to a frame that no program has moved. */
  readonly dataOffset: number
  /** Bytes of the area. */
  readonly addrsCnt: number
  /** Models `xsk_pool_get_rx_frame_size`: the longest piece of a frame that a chunk takes. */
  readonly frameBytes: number

  // By head.
  /** Where the chunk begins, bytes into the area. */
  readonly origAddr: Int32Array
  /** Memory address of the frame's first byte, as long as no program moves it. */
  readonly headData: Int32Array
  /** The same for the device, in zero-copy mode. */
  readonly headDma: Float64Array
  readonly onFreeList: Uint8Array

  /** Heads with a chunk and without an owner, the hottest last. */
  readonly freeList: Int32Array
  freeListCnt = 0
  /** Unaligned mode: heads without a chunk. */
  readonly freeHeads: Int32Array
  freeHeadsCnt = 0

  /** Models `xskb_list`: further buffers of the packet that a driver is putting together, and their lengths. */
  readonly fragHeads: number[] = []
  readonly fragLens: number[] = []

  // What the device's driver was last told to send.
  readonly txDma: Float64Array
  readonly txLen: Int32Array
  readonly txOptions: Int32Array

  /** Zero-copy mode: the device's view of the area. */
  dmaMapping: XskDmaMap | null = null

  constructor(
    readonly env: XskEnv,
    readonly umem: XdpUmem,
    readonly fq: XskQueue,
    readonly cq: XskQueue,
    txEntries: number,
  ) {
    const { chunks } = umem
    this.unaligned = umem.unaligned
    this.chunkSize = umem.chunkSize
    this.chunkShift = 31 - Math.clz32(umem.chunkSize)
    this.headroom = umem.headroom
    this.dataOffset = umem.headroom + XDP_PACKET_HEADROOM
    this.addrsCnt = umem.size
    this.frameBytes = umem.chunkSize - umem.headroom - XDP_PACKET_HEADROOM
    this.origAddr = new Int32Array(chunks)
    this.headData = new Int32Array(chunks)
    this.headDma = new Float64Array(chunks)
    this.onFreeList = new Uint8Array(chunks)
    this.freeList = new Int32Array(chunks)
    this.freeHeads = new Int32Array(this.unaligned ? chunks : 0)
    this.txDma = new Float64Array(txEntries)
    this.txLen = new Int32Array(txEntries)
    this.txOptions = new Int32Array(txEntries)
    if (this.unaligned) for (let i = 0; i < chunks; i++) this.freeHeads[this.freeHeadsCnt++] = i
    else for (let i = 0; i < chunks; i++) xpInitHead(this, i, i * umem.chunkSize)
  }
}

/** Models `xp_init_xskb_addr` and `xp_init_xskb_dma`: the head stands for the chunk at `addr` from here on. */
export function xpInitHead(pool: XskBuffPool, head: number, addr: number): void {
  const data = addr + pool.headroom + XDP_PACKET_HEADROOM
  pool.origAddr[head] = addr
  pool.headData[head] = umemAddr(pool.umem, data)
  const map = pool.dmaMapping
  if (map !== null) pool.headDma[head] = map.pages[data >>> 12]! + (data & 4095)
}
