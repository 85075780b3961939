/**
 * XDP: a program that sees a frame's bytes before there is an skb. Here a program is a typed function over a
 * view of the real bytes; there is no bytecode. What it answers is a verdict, and a redirect also names where to.
 */
import type { Addr, Cpu, Pfn } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import type { PagePool } from '@netmem/page-pool'
import type { NetDevice } from './net-device.js'
import type { XskPoolSlot } from './xsk-pool-slot.js'

/** Models `enum xdp_action`. */
export const XDP_ABORTED = 0
export const XDP_DROP = 1
export const XDP_PASS = 2
export const XDP_TX = 3
export const XDP_REDIRECT = 4
export type XdpAction = number

/** Models `XDP_PACKET_HEADROOM`: bytes in front of the frame that a native program may push into. */
export const XDP_PACKET_HEADROOM = 256

/** Models `enum xdp_mem_type`: how a frame's memory goes back. */
export const MEM_TYPE_PAGE_SHARED = 0
export const MEM_TYPE_PAGE_ORDER0 = 1
export const MEM_TYPE_PAGE_POOL = 2
export const MEM_TYPE_XSK_BUFF_POOL = 3

/** Models a loaded `BPF_PROG_TYPE_XDP` program. */
export interface XdpProgram {
  readonly name: string
  /** Models `BPF_F_XDP_HAS_FRAGS`: the program copes with frames in several buffers. */
  readonly hasFrags: boolean
  /** @returns one of `XDP_*`; anything else counts as `XDP_ABORTED` after a warning. */
  run(xdp: XdpBuff): XdpAction
}

/**
 * Where a redirect goes when it goes to an AF_XDP socket. The socket is `zerocopy`'s; this is the slot that it
 * fills. Models the part of `struct xdp_sock` that the receive path calls.
 */
export interface XskSlot {
  /**
   * Models `xsk_rcv` and `__xsk_map_redirect`: native mode. Copies the frame, or keeps its buffer.
   * @returns 0 copied (the caller returns the buffer), 1 buffer kept, or -errno with the buffer still the caller's; one
   *   of an AF_XDP pool may be back in it already, where returning it again does nothing.
   */
  rcv(cpu: Cpu, xdp: XdpBuff): number
  /** Models `xsk_generic_rcv`: the frame of an skb, which the caller frees, published at once. @returns 0 or -errno. */
  genericRcv(cpu: Cpu, xdp: XdpBuff): number
  /** Models `xsk_flush`: publishes what was received in this poll and wakes the reader. */
  flush(cpu: Cpu): void
}

/** What an entry of a redirect map names. */
export interface XdpTarget {
  readonly dev: NetDevice | null
  readonly xsk: XskSlot | null
}

/** Models a `DEVMAP` or `XSKMAP`: slots by key, null where nothing is stored. */
export interface XdpMap {
  readonly slots: (XdpTarget | null)[]
}

/**
 * Models `struct xdp_buff`: a view of one frame. The linear part is `[data, dataEnd)`; the shared info with
 * further fragments, laid out as an skb's, is at the end of the buffer.
 */
export class XdpBuff {
  data = 0 as Addr
  dataEnd = 0 as Addr
  /** Start of metadata in front of `data`; equal to `data` without any. */
  dataMeta = 0 as Addr
  dataHardStart = 0 as Addr
  /** Bytes from `dataHardStart` to the end of the buffer, shared info included. */
  frameSz = 0
  /** Models `XDP_FLAGS_HAS_FRAGS`. */
  hasFrags = false
  /** Models `rxq->frag_size`: bytes of a further buffer, 0 when the driver does not say. */
  fragSize = 0
  pfmemalloc = false
  /** Models `rxq`: where the frame came in. */
  rxDev = 0
  rxQueueIndex = 0
  /** Models `rxq->mem`. */
  memType = MEM_TYPE_PAGE_SHARED
  pool: PagePool | null = null
  /** With `MEM_TYPE_XSK_BUFF_POOL`: whose buffer it is, and which. */
  xskPool: XskPoolSlot | null = null
  xskHead = -1
  /** Models `bpf_redirect_info`: set by `bpfRedirect` and `bpfRedirectMap`. */
  target: XdpTarget | null = null

  constructor(
    readonly mem: Memory,
    /** Bytes that the shared info takes, aligned. */
    readonly sharedInfoBytes: number,
    /** Bytes of `struct xdp_frame`, which needs room at the start of the buffer. */
    readonly frameDescBytes: number,
    /** Whose it is: the CPU that returns what a program cuts off. Only frames of several buffers need it. */
    readonly cpu: Cpu | null = null,
  ) {}
}

/** Models `xdp_init_buff` and `xdp_prepare_buff`. @param headroom bytes from `hardStart` to the frame. */
export function xdpPrepareBuff(xdp: XdpBuff, hardStart: Addr, frameSz: number, headroom: number, len: number): void {
  const data = (hardStart + headroom) | 0
  xdp.dataHardStart = hardStart
  xdp.frameSz = frameSz
  xdp.data = data as Addr
  xdp.dataMeta = data as Addr
  xdp.dataEnd = (data + len) as Addr
  xdp.hasFrags = false
  xdp.fragSize = 0
  xdp.pfmemalloc = false
  xdp.target = null
}

/** Models `xdp_data_hard_end`: where the shared info starts. */
export const xdpDataHardEnd = (xdp: XdpBuff): Addr =>
  ((xdp.dataHardStart + xdp.frameSz - xdp.sharedInfoBytes) | 0) as Addr

/** Bytes in the linear part. */
export const xdpHeadLen = (xdp: XdpBuff): number => (xdp.dataEnd - xdp.data) | 0

/** Models `xdp_get_buff_len`: all bytes, fragments included. */
export const xdpGetBuffLen = (xdp: XdpBuff): number => (xdp.hasFrags ? fraggedLen(xdp) : (xdp.dataEnd - xdp.data) | 0)

function fraggedLen(xdp: XdpBuff): number {
  const { xskPool } = xdp
  if (xdp.memType !== MEM_TYPE_XSK_BUFF_POOL || xskPool === null)
    return xdpHeadLen(xdp) + xdp.mem.i32[(xdpDataHardEnd(xdp) >>> 2) + SHINFO_XDP_FRAGS_SIZE_WORD]!
  let len = xdpHeadLen(xdp)
  for (const bytes of xskPool.fragLens) len += bytes
  return len
}

/** Word of `xdp_frags_size` in the shared info: it shares its place with `destructor_arg`. */
export const SHINFO_XDP_FRAGS_SIZE_WORD = 10
/** Word of `xdp_frags_truesize`. */
export const SHINFO_XDP_FRAGS_TRUESIZE_WORD = 11

// What a program may read and write. Offsets count from `data`; out of bounds is refused, as the verifier would.

/** @returns the byte at that offset, or -1 out of the linear part. */
export const xdpLoadByte = (xdp: XdpBuff, offset: number): number =>
  offset >= 0 && offset < xdpHeadLen(xdp) ? xdp.mem.u8[(xdp.data + offset) >>> 0]! : -1

/** Writes one byte. @returns false out of the linear part. */
export function xdpStoreByte(xdp: XdpBuff, offset: number, value: number): boolean {
  if (offset < 0 || offset >= xdpHeadLen(xdp)) return false
  xdp.mem.u8[(xdp.data + offset) >>> 0] = value
  return true
}

/** @returns two bytes in network order, or -1 out of the linear part. */
export const xdpLoadHalf = (xdp: XdpBuff, offset: number): number =>
  offset >= 0 && offset + 2 <= xdpHeadLen(xdp) ? xdp.mem.dv.getUint16((xdp.data + offset) >>> 0) : -1

/** Models `bpf_redirect`: to a device. */
export function bpfRedirect(xdp: XdpBuff, dev: NetDevice): XdpAction {
  xdp.target = { dev, xsk: null }
  return XDP_REDIRECT
}

/**
 * Models `bpf_redirect_map` (net/core/filter.c).
 *
 * @param fallback the verdict when nothing is stored under the key (the low two bits of the kernel's flags).
 */
export function bpfRedirectMap(xdp: XdpBuff, map: XdpMap, key: number, fallback: XdpAction): XdpAction {
  const target = map.slots[key]
  if (target === null || target === undefined) return fallback & 3
  xdp.target = target
  return XDP_REDIRECT
}

/** @returns the page that holds the start of the buffer. */
export const xdpPage = (xdp: XdpBuff): Pfn => (xdp.dataHardStart >>> 12) as Pfn
