/** The options of the level SOL_XDP: the area, the rings, and what the socket tells of itself. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { OptVal, Sock, Task } from '@netmem/sockmem'
import {
  SOL_XDP,
  TX_BATCH_SIZE,
  XDP_MAX_TX_SKB_BUDGET,
  XDP_MMAP_OFFSETS,
  XDP_OPTIONS,
  XDP_OPTIONS_ZEROCOPY,
  XDP_RX_RING,
  XDP_STATISTICS,
  XDP_TX_RING,
  XDP_UMEM_COMPLETION_RING,
  XDP_UMEM_FILL_RING,
  XDP_UMEM_REG,
} from './uapi.js'
import { xdpUmemCreate } from './xdp-umem.js'
import {
  XSK_RING_CONSUMER,
  XSK_RING_DESC,
  XSK_RING_FLAGS,
  XSK_RING_PRODUCER,
  type XskQueue,
  xskqCreate,
} from './xsk-queue.js'
import { type XdpSock, xdpSk } from './xsk-sock.js'
import { XSK_READY } from './xsk-state.js'
import { xskTxRingSleeps } from './xsk-wakeup.js'

/** Bytes of `struct xdp_umem_reg` and of its first version. */
const UMEM_REG_BYTES = 32
const UMEM_REG_V1_BYTES = 24
/** Bytes of `struct xdp_statistics`, `struct xdp_mmap_offsets`, their first versions, and `struct xdp_options`. */
const STATISTICS_BYTES = 48
const STATISTICS_V1_BYTES = 24
const MMAP_OFFSETS_BYTES = 128
const MMAP_OFFSETS_V1_BYTES = 96
const OPTIONS_BYTES = 4

/**
 * Models `xsk_setsockopt` (net/xdp/xsk.c). Rings take a number; `XDP_UMEM_REG` takes eight words as `struct
 * xdp_umem_reg` has them, with the address as bytes into `val.buffer`.
 *
 * @returns 0; -ENOPROTOOPT for other options, -EINVAL for a short or senseless value, -EBUSY when bound or set before,
 *   -EACCES for a budget out of range, -ENOBUFS, -ENOMEM, -EFAULT.
 */
export function xskSetsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number {
  if (level !== SOL_XDP) return -ERRNO.ENOPROTOOPT
  const xs = xdpSk(sk)
  if (opt === XDP_UMEM_REG) return setUmem(xs, task, val)
  if (opt === XDP_MAX_TX_SKB_BUDGET && xs.env.multiBuffer) return setBudget(xs, val)
  if (opt < XDP_RX_RING || opt > XDP_UMEM_COMPLETION_RING) return -ERRNO.ENOPROTOOPT
  if (val.len < 4) return -ERRNO.EINVAL
  if (xs.state !== XSK_READY) return -ERRNO.EBUSY
  const entries = val.int >>> 0
  const umemRing = opt === XDP_UMEM_FILL_RING || opt === XDP_UMEM_COMPLETION_RING
  if (entries === 0 || ringOf(xs, opt) !== null || (entries & (entries - 1)) !== 0) return -ERRNO.EINVAL
  const ring = xskqCreate(xs.env.mem, cpu, entries, umemRing, !xs.env.multiBuffer)
  if (ring === null) return -ERRNO.ENOMEM
  if (opt === XDP_RX_RING) xs.rx = ring
  else if (opt === XDP_UMEM_FILL_RING) xs.fqTmp = ring
  else if (opt === XDP_UMEM_COMPLETION_RING) xs.cqTmp = ring
  else {
    xs.tx = ring
    xskTxRingSleeps(ring)
  }
  return 0
}

function ringOf(xs: XdpSock, opt: number): XskQueue | null {
  if (opt === XDP_RX_RING) return xs.rx
  if (opt === XDP_TX_RING) return xs.tx
  return opt === XDP_UMEM_FILL_RING ? xs.fqTmp : xs.cqTmp
}

function setUmem(xs: XdpSock, task: Task, val: OptVal): number {
  if (val.len < UMEM_REG_V1_BYTES) return -ERRNO.EINVAL
  if (xs.state !== XSK_READY || xs.umem !== null) return -ERRNO.EBUSY
  const { words } = val
  const whole = val.len >= UMEM_REG_BYTES
  const wide = (at: number): number => (words[at]! >>> 0) + (words[at + 1]! >>> 0) * 4294967296
  const umem = xdpUmemCreate(xs.env, task, {
    buffer: val.buffer,
    addr: wide(0),
    len: wide(2),
    chunkSize: words[4]! >>> 0,
    headroom: words[5]! >>> 0,
    flags: whole ? words[6]! : 0,
    txMetadataLen: whole ? words[7]! >>> 0 : 0,
  })
  if (typeof umem === 'number') return umem
  xs.umem = umem
  return 0
}

function setBudget(xs: XdpSock, val: OptVal): number {
  if (val.len !== 4) return -ERRNO.EINVAL
  const budget = val.int >>> 0
  if (xs.tx === null || budget < TX_BATCH_SIZE || budget > xs.tx.nentries) return -ERRNO.EACCES
  xs.maxTxBudget = budget
  return 0
}

/**
 * Models `xsk_getsockopt`: the answer is in `val.words`, 64-bit values as two words, low first.
 *
 * @returns 0; -EINVAL for too little room, -EOPNOTSUPP for other options, -ENOPROTOOPT for other levels.
 */
export function xskGetsockopt(sk: Sock, level: number, opt: number, val: OptVal): number {
  if (level !== SOL_XDP) return -ERRNO.ENOPROTOOPT
  if (val.len < 0) return -ERRNO.EINVAL
  const xs = xdpSk(sk)
  if (opt === XDP_STATISTICS) return getStatistics(xs, val)
  if (opt === XDP_MMAP_OFFSETS) return getMmapOffsets(val)
  if (opt !== XDP_OPTIONS) return -ERRNO.ENOTSUP
  if (val.len < OPTIONS_BYTES) return -ERRNO.EINVAL
  val.int = xs.zc ? XDP_OPTIONS_ZEROCOPY : 0
  val.words[0] = val.int
  val.len = OPTIONS_BYTES
  return 0
}

function getStatistics(xs: XdpSock, val: OptVal): number {
  if (val.len < STATISTICS_V1_BYTES) return -ERRNO.EINVAL
  const extra = val.len >= STATISTICS_BYTES
  // Without a place of its own a full ring counts as a drop.
  const values = [
    extra ? xs.rxDropped : xs.rxDropped + xs.rxQueueFull,
    xs.rx?.invalidDescs ?? 0,
    xs.tx?.invalidDescs ?? 0,
    xs.rxQueueFull,
    xs.pool?.fq.queueEmptyDescs ?? 0,
    xs.tx?.queueEmptyDescs ?? 0,
  ]
  val.len = extra ? STATISTICS_BYTES : STATISTICS_V1_BYTES
  for (let i = 0; i < val.len >> 3; i++) putWide(val, i, values[i]!)
  return 0
}

function getMmapOffsets(val: OptVal): number {
  if (val.len < MMAP_OFFSETS_V1_BYTES) return -ERRNO.EINVAL
  const withFlags = val.len >= MMAP_OFFSETS_BYTES
  const one = [XSK_RING_PRODUCER, XSK_RING_CONSUMER, XSK_RING_DESC, ...(withFlags ? [XSK_RING_FLAGS] : [])]
  for (let ring = 0; ring < 4; ring++) for (let i = 0; i < one.length; i++) putWide(val, ring * one.length + i, one[i]!)
  val.len = withFlags ? MMAP_OFFSETS_BYTES : MMAP_OFFSETS_V1_BYTES
  return 0
}

function putWide(val: OptVal, index: number, value: number): void {
  val.words[2 * index] = value | 0
  val.words[2 * index + 1] = Math.floor(value / 4294967296)
}
