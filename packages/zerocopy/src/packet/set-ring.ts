/** Making and unmaking rings, and showing them to the program. The order of the checks decides the errno. */
import { type Addr, type Cpu, ERRNO, type Gfp, NULL } from '@netmem/base'
import { getOrder, kfree, kmalloc, PAGE_SIZE, type UserBuffer, userMap } from '@netmem/memory'
import { skbQueuePurge } from '@netmem/skbuff'
import { prbOpenBlock } from './blocks.js'
import { bounceAlloc, bounceFree } from './bounce.js'
import {
  blkPlusPriv,
  DEFAULT_PRB_RETIRE_TOV,
  TPACKET_ALIGNMENT,
  TPACKET_HDRLEN,
  TPACKET_V2,
  TPACKET_V3,
} from './constants.js'
import { registerProtHook, unregisterProtHook } from './hook.js'
import { packetRcv } from './packet-rcv.js'
import { KbdqCore, type PacketRing, type PgVec, pgvAddr } from './packet-ring.js'
import type { PacketSock } from './packet-sock.js'
import { startRetireTimer, stopRetireTimer } from './retire-timer.js'
import { allocPgVec, freePgVec } from './ring-alloc.js'
import { tpacketRcv } from './tpacket-rcv.js'
import { tpacketRcvV3 } from './tpacket-rcv-v3.js'

const UINT_MAX = 0xffffffff
const INT_MAX = 0x7fffffff
const BITS_PER_LONG = 64
const MEBI = 1 << 20
/** More reserve than this may take the packet's offset over 16 bits. */
const MOST_RESERVE = 60_000

/** Models `struct tpacket_req3`; the last three are of V3 alone. Unsigned. */
export interface TpacketReq {
  readonly blockSize: number
  readonly blockNr: number
  readonly frameSize: number
  readonly frameNr: number
  readonly retireBlkTov: number
  readonly sizeofPriv: number
  readonly featureReqWord: number
}

/** Asks for no ring: takes one away. */
export const NO_RING: TpacketReq = {
  blockSize: 0,
  blockNr: 0,
  frameSize: 0,
  frameNr: 0,
  retireBlkTov: 0,
  sizeofPriv: 0,
  featureReqWord: 0,
}

/** What a new ring is made of, until it takes the place of the old one. */
interface Parts {
  vec: PgVec | null
  kbdq: KbdqCore | null
  ownerMap: Addr
  bounce: Addr
}

/**
 * Models `packet_set_ring` (net/packet/af_packet.c).
 *
 * @param closing the socket goes away: nothing is asked. @returns 0, -EBUSY, -EINVAL or -ENOMEM.
 */
export function packetSetRing(cpu: Cpu, po: PacketSock, req: TpacketReq, closing: boolean, tx: boolean): number {
  const rb = tx ? po.txRing : po.rxRing
  if (!closing && (po.mapped !== 0 || rb.pending !== 0)) return -ERRNO.EBUSY
  const parts: Parts = { vec: null, kbdq: null, ownerMap: NULL, bounce: NULL }
  if (req.blockNr !== 0) {
    if (rb.vec !== null) return -ERRNO.EBUSY
    const err = checkReq(po, rb, req) || buildRing(cpu, po, req, tx, parts)
    if (err !== 0) return err
  } else if (req.frameNr !== 0) return -ERRNO.EINVAL

  // Nothing arrives while the rings change places.
  const wasRunning = po.running
  const { num } = po
  if (wasRunning) {
    po.num = 0
    unregisterProtHook(cpu, po)
  }
  swapRing(cpu, po, rb, req, tx, parts)
  if (wasRunning) {
    po.num = num
    registerProtHook(po)
  }
  return 0
}

function checkReq(po: PacketSock, rb: PacketRing, req: TpacketReq): number {
  po.tpHdrlen = TPACKET_HDRLEN[po.tpVersion]!
  if (req.blockSize === 0 || req.blockSize > INT_MAX) return -ERRNO.EINVAL
  if (req.blockSize % PAGE_SIZE !== 0) return -ERRNO.EINVAL
  const least = po.tpHdrlen + po.tpReserve
  if (po.tpVersion >= TPACKET_V3 && req.blockSize < blkPlusPriv(req.sizeofPriv) + least) return -ERRNO.EINVAL
  if (req.frameSize < least) return -ERRNO.EINVAL
  if (req.frameSize % TPACKET_ALIGNMENT !== 0) return -ERRNO.EINVAL
  rb.framesPerBlock = Math.floor(req.blockSize / req.frameSize)
  if (rb.framesPerBlock === 0) return -ERRNO.EINVAL
  if (rb.framesPerBlock > Math.floor(UINT_MAX / req.blockNr)) return -ERRNO.EINVAL
  return rb.framesPerBlock * req.blockNr !== req.frameNr ? -ERRNO.EINVAL : 0
}

function buildRing(cpu: Cpu, po: PacketSock, req: TpacketReq, tx: boolean, parts: Parts): number {
  const { mem } = po.env
  const vec = allocPgVec(mem, cpu, req.blockSize, req.blockNr, getOrder(req.blockSize))
  if (vec === null) return -ERRNO.ENOMEM
  const fail = (err: number): number => {
    freePgVec(mem, cpu, vec)
    return err
  }
  if (vec.scattered) {
    const place = bounceAlloc(mem, cpu)
    if (place === NULL) return fail(-ERRNO.ENOMEM)
    parts.bounce = place
  }
  const undo = (err: number): number => {
    bounceFree(mem, cpu, parts.bounce)
    return fail(err)
  }
  if (po.tpVersion === TPACKET_V3) {
    if (!tx) parts.kbdq = makeKbdq(po, req)
    else if (req.retireBlkTov !== 0 || req.sizeofPriv !== 0 || req.featureReqWord !== 0) return undo(-ERRNO.EINVAL)
  } else if (!tx) {
    const bytes = Math.ceil(req.frameNr / BITS_PER_LONG) * (BITS_PER_LONG / 8)
    const mask = (mem.gfp.GFP_KERNEL | mem.gfp.NOWARN | mem.gfp.ZERO) as Gfp
    parts.ownerMap = kmalloc(mem, cpu, bytes, mask, 'packet_set_ring')
    if (parts.ownerMap === NULL) return undo(-ERRNO.ENOMEM)
  }
  parts.vec = vec
  return 0
}

/** Models `init_prb_bdqc`; its first block is opened once the ring is in its place. */
function makeKbdq(po: PacketSock, req: TpacketReq): KbdqCore {
  po.tpFreezeQCnt = 0
  const tov = req.retireBlkTov !== 0 ? req.retireBlkTov : prbCalcRetireBlkTmo(po, req.blockSize)
  const room = req.blockSize - blkPlusPriv(req.sizeofPriv)
  return new KbdqCore(req.blockNr, req.blockSize, req.sizeofPriv, room, tov, req.featureReqWord)
}

/** Models `prb_calc_retire_blk_tmo`: as long as the link takes to fill a block, where its speed is known. Milliseconds. */
function prbCalcRetireBlkTmo(po: PacketSock, blockBytes: number): number {
  const dev = po.env.devs.devices[po.ifindex] ?? null
  if (dev === null || dev.speed < 1000) return DEFAULT_PRB_RETIRE_TOV
  // The kernel multiplies in 32 bits.
  const mbits = Math.trunc(((blockBytes * 8) | 0) / MEBI)
  return Math.trunc((mbits >>> 0) / Math.floor(dev.speed / 1000)) + 1
}

function swapRing(cpu: Cpu, po: PacketSock, rb: PacketRing, req: TpacketReq, tx: boolean, parts: Parts): void {
  const { mem } = po.env
  const old: Parts = { vec: rb.vec, kbdq: rb.kbdq, ownerMap: rb.ownerMap, bounce: rb.bounce }
  rb.vec = parts.vec
  rb.kbdq = parts.kbdq
  rb.bounce = parts.bounce
  if (po.tpVersion <= TPACKET_V2) rb.ownerMap = parts.ownerMap
  rb.frameMax = (req.frameNr - 1) >>> 0
  rb.head = 0
  rb.stuck = -1
  rb.frameSize = req.frameSize
  rb.pgVecLen = req.blockNr
  rb.pgVecPages = Math.floor(req.blockSize / PAGE_SIZE)
  po.plainRaw = !po.cooked && po.vnetHdrSz === 0 && po.tpReserve < MOST_RESERVE
  po.hook.func = po.rxRing.vec === null ? packetRcv : po.rxRing.kbdq !== null ? tpacketRcvV3 : tpacketRcv
  if (parts.kbdq !== null) {
    prbOpenBlock(po, parts.kbdq)
    startRetireTimer(po, parts.kbdq)
  }
  skbQueuePurge(cpu, tx ? po.sk.writeQueue : po.sk.receiveQueue)
  if (old.kbdq !== null) stopRetireTimer(po, old.kbdq)
  if (old.ownerMap !== NULL) kfree(mem, cpu, old.ownerMap, 'packet_set_ring')
  bounceFree(mem, cpu, old.bounce)
  if (old.vec !== null) freePgVec(mem, cpu, old.vec)
}

/**
 * Models `packet_mmap`: both rings, the receive ring first. @returns the area, or -EINVAL when it is not exactly as long
 * as they are.
 */
export function packetMmap(po: PacketSock, offset: number, bytes: number): UserBuffer | number {
  if (offset !== 0) return -ERRNO.EINVAL
  const rings = [po.rxRing, po.txRing].filter((rb) => rb.vec !== null)
  const pages = rings.reduce((sum, rb) => sum + rb.pgVecLen * rb.pgVecPages, 0)
  if (pages === 0 || bytes !== pages * PAGE_SIZE) return -ERRNO.EINVAL
  const pfns = new Int32Array(pages)
  let at = 0
  for (const rb of rings)
    for (let block = 0; block < rb.pgVecLen; block++)
      for (let page = 0; page < rb.pgVecPages; page++) pfns[at++] = pgvAddr(rb.vec!, block, page * PAGE_SIZE) >>> 12
  po.mapped += 1
  return userMap(po.env.mem, pfns)
}
