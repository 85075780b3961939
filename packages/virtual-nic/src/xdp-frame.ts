/**
 * A frame that a program sent on: the buffer without its receive queue. Models `struct xdp_frame`, which the
 * kernel keeps at the start of the buffer itself; here it is a small pooled object.
 */
import { type Addr, type Cpu, NO_PFN, type Pfn } from '@netmem/base'
import { allocPages, type Memory, putPage } from '@netmem/memory'
import { skbFreeFrag } from '@netmem/page-frag'
import { type PagePool, pagePoolPutFullPage } from '@netmem/page-pool'
import {
  MEM_TYPE_PAGE_ORDER0,
  MEM_TYPE_PAGE_POOL,
  MEM_TYPE_PAGE_SHARED,
  MEM_TYPE_XSK_BUFF_POOL,
  SHINFO_XDP_FRAGS_SIZE_WORD,
  type XdpBuff,
  xdpDataHardEnd,
  xdpHeadLen,
} from './xdp.js'

/** Models `struct xdp_frame` (include/net/xdp.h). Bytes. */
export class XdpFrame {
  data = 0 as Addr
  len = 0
  /** From the start of the buffer to `data`, without the frame's own descriptor. */
  headroom = 0
  metasize = 0
  frameSz = 0
  hasFrags = false
  pfmemalloc = false
  memType = 0
  pool: PagePool | null = null
  devRx = 0
}

/** A free list of frames, so that redirecting makes no garbage. */
export class XdpFramePool {
  readonly free: XdpFrame[] = []
  /** Frames out; 0 at rest. */
  live = 0
}

/** @returns a frame with undefined fields. */
function takeFrame(pool: XdpFramePool): XdpFrame {
  pool.live++
  return pool.free.pop() ?? new XdpFrame()
}

/** Gives the descriptor back; the buffer's memory is somebody else's by now. */
export function releaseXdpFrame(pool: XdpFramePool, frame: XdpFrame): void {
  pool.live--
  frame.pool = null
  pool.free.push(frame)
}

/**
 * Models `xdp_convert_buff_to_frame` (include/net/xdp.h).
 *
 * @returns the frame, which owns the buffer now; null when the headroom is too small for its descriptor.
 */
export function xdpConvertBuffToFrame(frames: XdpFramePool, xdp: XdpBuff): XdpFrame | null {
  if (xdp.memType === MEM_TYPE_XSK_BUFF_POOL) return convertZc(frames, xdp)
  const headroom = (xdp.data - xdp.dataHardStart) | 0
  const metasize = Math.max(0, (xdp.data - xdp.dataMeta) | 0)
  if (headroom - metasize < xdp.frameDescBytes) return null
  const frame = takeFrame(frames)
  frame.data = xdp.data
  frame.len = xdpHeadLen(xdp)
  frame.headroom = headroom - xdp.frameDescBytes
  frame.metasize = metasize
  frame.frameSz = xdp.frameSz
  frame.hasFrags = xdp.hasFrags
  frame.pfmemalloc = xdp.pfmemalloc
  frame.memType = xdp.memType
  frame.pool = xdp.pool
  frame.devRx = xdp.rxDev
  return frame
}

/**
 * Models `xdp_convert_zc_to_xdp_frame` (net/core/xdp.c): the frame is copied to a page, as the buffer is the user's.
 *
 * @returns null, with the buffer still the caller's, when it does not fit a page or there is none.
 */
function convertZc(frames: XdpFramePool, xdp: XdpBuff): XdpFrame | null {
  const { mem, cpu } = xdp
  const metasize = Math.max(0, (xdp.data - xdp.dataMeta) | 0)
  const len = xdpHeadLen(xdp)
  const page = mem.profile.page_size
  if (cpu === null || xdp.hasFrags || xdp.frameDescBytes + metasize + len > page) return null
  const pfn = allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, 'xdp_convert_zc_to_xdp_frame')
  if (pfn === NO_PFN) return null
  const start = (pfn << 12) + xdp.frameDescBytes
  mem.u8.copyWithin(start >>> 0, (xdp.data - metasize) >>> 0, xdp.dataEnd >>> 0)
  if (mem.trace.copy !== null) mem.trace.copy(cpu, 'xdp_convert_zc_to_xdp_frame', metasize + len)
  const frame = takeFrame(frames)
  frame.data = (start + metasize) as Addr
  frame.len = len
  frame.headroom = metasize
  frame.metasize = metasize
  frame.frameSz = page
  frame.hasFrags = false
  frame.pfmemalloc = false
  frame.memType = MEM_TYPE_PAGE_ORDER0
  frame.pool = null
  frame.devRx = xdp.rxDev
  xdp.xskPool!.free(xdp.xskHead)
  return frame
}

/** Models `xdp_convert_frame_to_buff`. */
export function xdpConvertFrameToBuff(frame: XdpFrame, xdp: XdpBuff): void {
  xdp.dataHardStart = ((frame.data - frame.headroom - xdp.frameDescBytes) | 0) as Addr
  xdp.data = frame.data
  xdp.dataEnd = ((frame.data + frame.len) | 0) as Addr
  xdp.dataMeta = ((frame.data - frame.metasize) | 0) as Addr
  xdp.frameSz = frame.frameSz
  xdp.hasFrags = frame.hasFrags
  xdp.pfmemalloc = frame.pfmemalloc
  xdp.memType = frame.memType
  xdp.pool = frame.pool
  xdp.target = null
}

/** Models `xdp_get_frame_len`. @param sharedInfo address of the frame's shared info. */
export const xdpGetFrameLen = (
  mem: Memory,
  frame: XdpFrame,
  frameDescBytes: number,
  sharedInfoBytes: number,
): number => {
  if (!frame.hasFrags) return frame.len
  const hardStart = (frame.data - frame.headroom - frameDescBytes) | 0
  const end = (hardStart + frame.frameSz - sharedInfoBytes) >>> 2
  return frame.len + mem.i32[end + SHINFO_XDP_FRAGS_SIZE_WORD]!
}

/** Models `__xdp_return`: one page of a frame goes back where it came from. */
export function xdpReturnPage(
  mem: Memory,
  cpu: Cpu,
  addr: Addr,
  memType: number,
  pool: PagePool | null,
  direct: boolean,
): void {
  if (memType === MEM_TYPE_PAGE_POOL) pagePoolPutFullPage(cpu, pool!, (addr >>> 12) as Pfn, direct)
  else if (memType === MEM_TYPE_PAGE_SHARED) skbFreeFrag(mem, cpu, addr, 'xdp_return_frame')
  else if (memType === MEM_TYPE_PAGE_ORDER0) putPage(mem, cpu, (addr >>> 12) as Pfn, 'xdp_return_frame')
}

/** Returns the fragments behind a linear part whose shared info is at `end`. */
function returnFrags(
  mem: Memory,
  cpu: Cpu,
  end: number,
  memType: number,
  pool: PagePool | null,
  direct: boolean,
): void {
  const count = mem.u8[end + 2]!
  for (let i = 0; i < count; i++) {
    const at = (end >>> 2) + 12 + i * 4
    const addr = ((mem.i32[at]! << 12) + mem.i32[at + 3]!) | 0
    xdpReturnPage(mem, cpu, addr as Addr, memType, pool, direct)
  }
}

/** Models `xdp_return_buff` (net/core/xdp.c). @param direct in the poll that owns the pool. */
export function xdpReturnBuff(cpu: Cpu, xdp: XdpBuff, direct: boolean): void {
  if (xdp.memType === MEM_TYPE_XSK_BUFF_POOL) {
    if (xdp.hasFrags) xdp.xskPool!.dropFrags()
    xdp.xskPool!.free(xdp.xskHead)
    return
  }
  if (xdp.hasFrags) returnFrags(xdp.mem, cpu, xdpDataHardEnd(xdp) >>> 0, xdp.memType, xdp.pool, direct)
  xdpReturnPage(xdp.mem, cpu, xdp.data, xdp.memType, xdp.pool, direct)
}

/** Models `xdp_return_frame` and `xdp_return_frame_rx_napi`. Takes the frame and its buffer. */
export function xdpReturnFrame(
  mem: Memory,
  cpu: Cpu,
  frames: XdpFramePool,
  frame: XdpFrame,
  frameDescBytes: number,
  sharedInfoBytes: number,
  direct: boolean,
): void {
  if (frame.hasFrags) {
    const end = (frame.data - frame.headroom - frameDescBytes + frame.frameSz - sharedInfoBytes) >>> 0
    returnFrags(mem, cpu, end, frame.memType, frame.pool, direct)
  }
  xdpReturnPage(mem, cpu, frame.data, frame.memType, frame.pool, direct)
  releaseXdpFrame(frames, frame)
}
