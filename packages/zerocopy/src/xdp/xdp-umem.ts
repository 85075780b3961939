/**
 * The memory that packets of AF_XDP live in: an area of the user's own, pinned, cut into chunks. A chunk is named by
 * its offset from the start of the area.
 */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { getUserPages, type Memory, PAGE_SIZE, putPage, type UserBuffer } from '@netmem/memory'
import { CAP_IPC_LOCK, capable, currentUser, type Task } from '@netmem/sockmem'
import { XDP_PACKET_HEADROOM } from '@netmem/virtual-nic'
import {
  XDP_UMEM_MIN_CHUNK_SIZE,
  XDP_UMEM_TX_METADATA_LEN,
  XDP_UMEM_TX_SW_CSUM,
  XDP_UMEM_UNALIGNED_CHUNK_FLAG,
  XSK_MIN_FRAME_BYTES,
} from './uapi.js'
import type { XskEnv } from './xsk-env.js'

/** Models `struct xdp_umem_reg`. */
export interface XdpUmemReg {
  /** Where the area is: a piece of user memory and bytes into it; null when nothing is mapped at the address. */
  readonly buffer: UserBuffer | null
  readonly addr: number
  /** Bytes, exact up to 2^53. */
  readonly len: number
  readonly chunkSize: number
  readonly headroom: number
  /** `XDP_UMEM_*` bits. */
  readonly flags: number
  readonly txMetadataLen: number
}

/** Models `struct xdp_umem`. Law: each page of `pfns` carries one reference of ours for as long as `users` > 0. */
export class XdpUmem {
  users = 1
  /** Models `XDP_UMEM_SG_FLAG`: set by the bind that asked for several buffers a packet. */
  sg = false
  /** A device reads and writes it directly. */
  zc = false
  readonly unaligned: boolean
  /** Address of the first byte when all pages are neighbours, else 0. */
  readonly base: number

  constructor(
    readonly id: number,
    /** Bytes of the area, headroom of a chunk, a chunk; chunks in all. */
    readonly size: number,
    readonly headroom: number,
    readonly chunkSize: number,
    readonly chunks: number,
    readonly flags: number,
    readonly txMetadataLen: number,
    readonly pfns: Int32Array,
    /** Whose locked memory the pages count against: the user's index plus 1, 0 for nobody's. */
    readonly user: number,
  ) {
    this.unaligned = (flags & XDP_UMEM_UNALIGNED_CHUNK_FLAG) !== 0
    let contiguous = true
    for (let i = 1; i < pfns.length; i++) if (pfns[i] !== pfns[0]! + i) contiguous = false
    this.base = contiguous ? pfns[0]! << 12 : 0
  }
}

/** @returns the memory address of a byte of the area. */
export const umemAddr = (umem: XdpUmem, offset: number): number =>
  (umem.pfns[offset >>> 12]! << 12) | (offset & (PAGE_SIZE - 1))

/** Copies into the area, which need not be one piece of physical memory. @param offset bytes into the area. */
export function umemCopyIn(mem: Memory, umem: XdpUmem, offset: number, from: number, bytes: number): void {
  for (let done = 0; done < bytes; ) {
    const n = Math.min(bytes - done, PAGE_SIZE - ((offset + done) & (PAGE_SIZE - 1)))
    mem.u8.copyWithin(umemAddr(umem, offset + done) >>> 0, (from + done) >>> 0, ((from + done) >>> 0) + n)
    done += n
  }
}

/** Copies out of the area. */
export function umemCopyOut(mem: Memory, umem: XdpUmem, offset: number, to: number, bytes: number): void {
  for (let done = 0; done < bytes; ) {
    const n = Math.min(bytes - done, PAGE_SIZE - ((offset + done) & (PAGE_SIZE - 1)))
    const from = umemAddr(umem, offset + done) >>> 0
    mem.u8.copyWithin((to + done) >>> 0, from, from + n)
    done += n
  }
}

/** Models the limit on `headroom`: behind it a chunk holds XDP's own headroom, a frame, and the shared info. */
const headroomLimit = (env: XskEnv, chunkSize: number): number =>
  chunkSize - XDP_PACKET_HEADROOM - env.sharedInfoBytes - XSK_MIN_FRAME_BYTES

/**
 * Models the checks of `xdp_umem_reg` (net/xdp/xdp_umem.c), in its order.
 *
 * @returns 0 or -EINVAL.
 */
function checkReg(env: XskEnv, mr: XdpUmemReg): number {
  const { chunkSize, len } = mr
  const unaligned = (mr.flags & XDP_UMEM_UNALIGNED_CHUNK_FLAG) !== 0
  if (chunkSize < XDP_UMEM_MIN_CHUNK_SIZE || chunkSize > PAGE_SIZE) return -ERRNO.EINVAL
  let known = XDP_UMEM_UNALIGNED_CHUNK_FLAG
  if (env.multiBuffer) known |= XDP_UMEM_TX_SW_CSUM | XDP_UMEM_TX_METADATA_LEN
  if ((mr.flags & ~known) !== 0) return -ERRNO.EINVAL
  if (!unaligned && (chunkSize & (chunkSize - 1)) !== 0) return -ERRNO.EINVAL
  if (mr.addr % PAGE_SIZE !== 0) return -ERRNO.EINVAL
  // Counts of pages and chunks are 32 bits wide.
  if (Math.ceil(len / PAGE_SIZE) > 0xffffffff) return -ERRNO.EINVAL
  const chunks = Math.floor(len / chunkSize)
  if (chunks === 0 || chunks > 0xffffffff) return -ERRNO.EINVAL
  if (!unaligned && len % chunkSize !== 0) return -ERRNO.EINVAL
  if (mr.headroom > headroomLimit(env, chunkSize)) return -ERRNO.EINVAL
  const withMetadata = (mr.flags & XDP_UMEM_TX_METADATA_LEN) !== 0
  return withMetadata && (mr.txMetadataLen >= 256 || mr.txMetadataLen % 8 !== 0) ? -ERRNO.EINVAL : 0
}

/**
 * Models `xdp_umem_account_pages`: pinned pages count against RLIMIT_MEMLOCK.
 *
 * @returns the user's index plus 1, 0 when nobody counts, or -ENOBUFS.
 */
function accountPages(env: XskEnv, task: Task, pages: number): number {
  if (capable(task, CAP_IPC_LOCK)) return 0
  const user = currentUser(env.socks, task)
  if (user.lockedVm + pages > Math.floor(task.rlimitMemlock / PAGE_SIZE)) return -ERRNO.ENOBUFS
  user.lockedVm += pages
  return user.index + 1
}

/** Models `xdp_umem_unaccount_pages`. */
function unaccountPages(env: XskEnv, user: number, pages: number): void {
  if (user !== 0) env.socks.users[user - 1]!.lockedVm -= pages
}

/**
 * Models `xdp_umem_create` (net/xdp/xdp_umem.c): checks, charges locked memory, pins the pages.
 *
 * @returns the area with one user, or -EINVAL, -ENOBUFS (too much locked memory), -ENOMEM or -EFAULT.
 */
export function xdpUmemCreate(env: XskEnv, task: Task, mr: XdpUmemReg): XdpUmem | number {
  const refused = checkReg(env, mr)
  if (refused !== 0) return refused
  const npgs = Math.ceil(mr.len / PAGE_SIZE)
  const lockedBytes = npgs * PAGE_SIZE
  const user = accountPages(env, task, npgs)
  if (user < 0) return user
  const mapped = mr.buffer === null ? 0 : mr.buffer.pfns.length * PAGE_SIZE - mr.addr
  if (mr.buffer === null || mapped < lockedBytes) {
    unaccountPages(env, user, npgs)
    return mapped > 0 ? -ERRNO.ENOMEM : -ERRNO.EFAULT
  }
  const pfns = new Int32Array(npgs)
  getUserPages(env.mem, mr.buffer, mr.addr, lockedBytes, pfns, 0)
  const metadata = (mr.flags & XDP_UMEM_TX_METADATA_LEN) !== 0 ? mr.txMetadataLen : 0
  const chunks = Math.floor(mr.len / mr.chunkSize)
  env.umems++
  return new XdpUmem(env.nextUmemId++, mr.len, mr.headroom, mr.chunkSize, chunks, mr.flags, metadata, pfns, user)
}

/** Models `xdp_get_umem`. */
export function xdpGetUmem(umem: XdpUmem): void {
  umem.users++
}

/** Models `xdp_put_umem` and `xdp_umem_release`: the last user unpins the pages. Takes the caller's reference. */
export function xdpPutUmem(env: XskEnv, cpu: Cpu, umem: XdpUmem | null): void {
  if (umem === null) return
  umem.users--
  if (umem.users !== 0) return
  for (const pfn of umem.pfns) putPage(env.mem, cpu, pfn as Pfn, 'unpin_user_pages_dirty_lock')
  unaccountPages(env, umem.user, umem.pfns.length)
  env.umems--
}
