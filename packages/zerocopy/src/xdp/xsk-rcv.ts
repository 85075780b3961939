/**
 * Receiving. A redirect to the socket ends here: in copy mode the frame is copied into chunks from the fill ring, in
 * zero-copy mode the driver's buffer already is a chunk, and only a descriptor is written.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { MEM_TYPE_XSK_BUFF_POOL, XDP_PACKET_HEADROOM } from '@netmem/virtual-nic'
import { XDP_PKT_CONTD, XSK_UNALIGNED_OFFSET_SHIFT_HIGH } from './uapi.js'
import { umemCopyIn } from './xdp-umem.js'
import { fragmentAddr, fragmentLen, type XdpBuff, xdpGetBuffLen } from './xdp-view.js'
import { NO_HEAD, xpAlloc, xpCanAlloc, xpFree, xpRelease } from './xsk-alloc.js'
import type { XskBuffPool } from './xsk-buff-pool.js'
import { xskqConsPublish, xskqProdNbFree, xskqProdReserveDesc, xskqProdSubmit } from './xsk-queue.js'
import type { XdpSock } from './xsk-sock.js'
import { XSK_BOUND } from './xsk-state.js'

// Hot path: zero copy.

/**
 * Models `xsk_rcv` with `__xsk_map_redirect` (net/xdp/xsk.c): native mode.
 *
 * @returns 0 copied (the buffer is still the caller's), 1 buffer taken, or -errno: a driver's own chunk is then back in
 *   the pool, anything else still the caller's.
 */
export function xskRcv(cpu: Cpu, xs: XdpSock, xdp: XdpBuff): number {
  // One frame in one chunk of ours, written out: what follows does the same. Benchmark: `xdp.zc.64B`.
  const rx = xs.rx
  if (
    xdp.memType === MEM_TYPE_XSK_BUFF_POOL &&
    !xdp.hasFrags &&
    rx !== null &&
    xs.state === XSK_BOUND &&
    xs.devId === xdp.rxDev &&
    xs.queueId === xdp.rxQueueIndex
  ) {
    const pool = xs.pool!
    const len = (xdp.dataEnd - xdp.data) | 0
    if (len <= pool.frameBytes && !pool.unaligned) {
      const head = xdp.xskHead
      const moved = (xdp.data - pool.headData[head]!) | 0
      const addr = (pool.origAddr[head]! + pool.dataOffset + moved) | 0
      if (xskqProdReserveDesc(rx, addr, 0, len, 0)) return 1
      xs.rxQueueFull++
      xpFree(pool, head)
      return -ERRNO.ENOBUFS
    }
  }
  const len = xdpGetBuffLen(xdp)
  const err = xskRcvCheck(xs, xdp, len)
  if (err !== 0) return err
  return xdp.memType === MEM_TYPE_XSK_BUFF_POOL ? xskRcvZc(xs, xdp) : xskRcvCopy(cpu, xs, xdp, len)
}

/** Models `xsk_rcv_check`. */
function xskRcvCheck(xs: XdpSock, xdp: XdpBuff, len: number): number {
  if (xs.state !== XSK_BOUND) return -ERRNO.ENXIO
  // A socket that only sends has no ring to receive into.
  if (xs.rx === null) return -ERRNO.EINVAL
  if (xs.devId !== xdp.rxDev || xs.queueId !== xdp.rxQueueIndex) return -ERRNO.EINVAL
  if (len > xs.pool!.frameBytes && !xs.sg) {
    xs.rxDropped++
    return -ERRNO.ENOSPC
  }
  return 0
}

/** Models `xsk_rcv_zc`: the chunk that the card wrote is the user's. Takes the buffers. */
function xskRcvZc(xs: XdpSock, xdp: XdpBuff): number {
  const pool = xs.pool!
  const head = xdp.xskHead
  // A program may have moved the start of the frame.
  const offset = (xdp.data - pool.headData[head]!) | 0
  if (pool.fragHeads.length !== 0) return xskRcvZcFrags(xs, pool, xdp, head, offset)
  if (rcvDesc(xs, pool, head, offset, (xdp.dataEnd - xdp.data) | 0, 0)) return 1
  xpFree(pool, head)
  return -ERRNO.ENOBUFS
}

/** Models `__xsk_rcv_zc` with `xp_get_handle`. @returns false with the ring full, and the head still the caller's. */
function rcvDesc(xs: XdpSock, pool: XskBuffPool, head: number, offset: number, len: number, options: number): boolean {
  const addr = pool.origAddr[head]!
  const shift = offset + pool.headroom + XDP_PACKET_HEADROOM
  const written = pool.unaligned
    ? xskqProdReserveDesc(xs.rx!, addr, shift << XSK_UNALIGNED_OFFSET_SHIFT_HIGH, len, options)
    : xskqProdReserveDesc(xs.rx!, addr + shift, 0, len, options)
  if (!written) {
    xs.rxQueueFull++
    return false
  }
  xpRelease(pool, head)
  return true
}

/** Models the part of `xsk_rcv_zc` for packets in several buffers. A ring that fills half way keeps what is in it. */
function xskRcvZcFrags(xs: XdpSock, pool: XskBuffPool, xdp: XdpBuff, head: number, offset: number): number {
  const { fragHeads, fragLens } = pool
  let ok = rcvDesc(xs, pool, head, offset, (xdp.dataEnd - xdp.data) | 0, XDP_PKT_CONTD)
  if (!ok) xpFree(pool, head)
  for (let i = 0; i < fragHeads.length; i++) {
    const more = i + 1 < fragHeads.length ? XDP_PKT_CONTD : 0
    if (ok) ok = rcvDesc(xs, pool, fragHeads[i]!, 0, fragLens[i]!, more)
    if (!ok) xpFree(pool, fragHeads[i]!)
  }
  fragHeads.length = 0
  fragLens.length = 0
  return ok ? 1 : -ERRNO.ENOBUFS
}

/** Models `xsk_flush`: what was received may be read, and the user sees which fill entries are used up. */
export function xskFlush(cpu: Cpu, xs: XdpSock): void {
  xskqProdSubmit(xs.rx!)
  xskqConsPublish(xs.pool!.fq)
  xs.sk.dataReady(cpu, xs.sk)
}

// Copy mode.

/** Models `xsk_generic_rcv`: the frame of an skb, which stays the caller's. @returns 0 or -errno. */
export function xskGenericRcv(cpu: Cpu, xs: XdpSock, xdp: XdpBuff): number {
  const len = xdpGetBuffLen(xdp)
  const refused = xskRcvCheck(xs, xdp, len)
  if (refused !== 0) return refused
  const err = xskRcvCopy(cpu, xs, xdp, len)
  xskFlush(cpu, xs)
  return err
}

/** Models `__xsk_rcv`: a chunk, the copy, a descriptor. Metadata in front of the frame is copied too. */
function xskRcvCopy(cpu: Cpu, xs: XdpSock, xdp: XdpBuff, len: number): number {
  const pool = xs.pool!
  if (len > pool.frameBytes || xdp.hasFrags) return xskRcvCopyFrags(cpu, xs, pool, xdp, len)
  const head = xpAlloc(cpu, pool)
  if (head === NO_HEAD) {
    xs.rxDropped++
    return -ERRNO.ENOMEM
  }
  const meta = Math.max(0, (xdp.data - xdp.dataMeta) | 0)
  const at = pool.origAddr[head]! + pool.headroom + XDP_PACKET_HEADROOM
  const { mem } = xs.env
  umemCopyIn(mem, pool.umem, at - meta, xdp.data - meta, len + meta)
  if (mem.trace.copy !== null) mem.trace.copy(cpu, '__xsk_rcv', len + meta)
  if (rcvDesc(xs, pool, head, 0, len, 0)) return 0
  xpFree(pool, head)
  return -ERRNO.ENOBUFS
}

/** The rest of `__xsk_rcv`: a packet over several chunks, from however many pieces. Enough of both, or nothing. */
function xskRcvCopyFrags(cpu: Cpu, xs: XdpSock, pool: XskBuffPool, xdp: XdpBuff, len: number): number {
  const count = Math.floor((len - 1) / pool.frameBytes) + 1
  if (!xpCanAlloc(pool, count)) {
    xs.rxDropped++
    return -ERRNO.ENOMEM
  }
  if (xskqProdNbFree(xs.rx!, count) < count) {
    xs.rxQueueFull++
    return -ERRNO.ENOBUFS
  }
  let meta = Math.max(0, (xdp.data - xdp.dataMeta) | 0)
  const { trace } = xs.env.mem
  if (trace.copy !== null) trace.copy(cpu, '__xsk_rcv', len + meta)
  let from = xdp.data - meta
  let fromLen = (xdp.dataEnd - from) | 0
  let frag = 0
  for (let left = len; left > 0; ) {
    const head = xpAlloc(cpu, pool)
    if (head === NO_HEAD) {
      // Differs: entries that make no sense counted as buffers above, and the kernel would go on with a null pointer.
      xs.rxDropped++
      return -ERRNO.ENOMEM
    }
    const bytes = Math.min(left, pool.frameBytes)
    let at = pool.origAddr[head]! + pool.headroom + XDP_PACKET_HEADROOM - meta
    for (let todo = bytes + meta; todo > 0; ) {
      if (fromLen === 0) {
        from = fragmentAddr(xdp, frag)
        fromLen = fragmentLen(xdp, frag)
        frag++
      }
      const n = Math.min(todo, fromLen)
      umemCopyIn(xs.env.mem, pool.umem, at, from, n)
      at += n
      from += n
      fromLen -= n
      todo -= n
    }
    left -= bytes
    meta = 0
    rcvDesc(xs, pool, head, 0, bytes, left > 0 ? XDP_PKT_CONTD : 0)
  }
  return 0
}
