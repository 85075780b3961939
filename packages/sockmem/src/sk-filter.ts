/**
 * Socket filters in the classic instruction set: how many bytes of option memory a program costs, and what
 * it lets through. The kernel turns a classic program into its own longer one and charges that.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { pskbTrim, type SkBuff, skbPfmemalloc } from '@netmem/skbuff'
import { bpfCheckClassic } from './bpf-check.js'
import { bpfConvertedLength } from './bpf-length.js'
import { BPF_MAXINSNS } from './bpf-numbers.js'
import { bpfRunClassic } from './classic-bpf.js'
import { SOCKF_FILTER_LOCKED, SOCKF_MEMALLOC } from './constants.js'
import { mibIndex } from './mib.js'
import type { Sock } from './sock.js'
import type { SockEnv } from './sock-env.js'

const PF_MEMALLOC_DROP = mibIndex('TcpExt.PFMemallocDrop')

/** Models `struct sk_filter` with its program: four numbers per classic instruction. */
export class SkFilter {
  constructor(
    readonly insns: Int32Array,
    /** What it costs in option memory. */
    readonly bytes: number,
  ) {}
}

/**
 * Models `bpf_prog_create_from_user` (net/core/filter.c): checks a classic program and keeps a copy of it.
 *
 * @returns null for a program that is empty, too long or bad.
 */
export function skProgCreate(env: SockEnv, insns: Int32Array): SkFilter | null {
  const count = insns.length >> 2
  if (count === 0 || count > BPF_MAXINSNS || !bpfCheckClassic(insns)) return null
  const bytes = env.profile.structs.bpf_prog.size + bpfConvertedLength(insns) * 8
  return new SkFilter(insns.slice(), bytes)
}

/**
 * Models `sk_attach_filter` (net/core/filter.c): replaces the socket's filter. Charged before the old one is given
 * back, so the room for both is needed.
 *
 * @param insns code, jt, jf, k of each instruction.
 * @returns 0, -EPERM when locked, -EINVAL for a bad program, -ENOMEM over `net.core.optmem_max`.
 */
export function skAttachFilter(sk: Sock, insns: Int32Array): number {
  if ((sk.flags & SOCKF_FILTER_LOCKED) !== 0) return -ERRNO.EPERM
  const filter = skProgCreate(sk.env, insns)
  if (filter === null) return -ERRNO.EINVAL
  const { bytes } = filter
  const optmemMax = sk.net.optmemMax[0]
  if (bytes > optmemMax || sk.omemAlloc + bytes >= optmemMax) return -ERRNO.ENOMEM
  sk.omemAlloc += bytes
  const old = sk.filter
  sk.filter = filter
  if (old !== null) skFilterUncharge(sk, old)
  return 0
}

/** Models `sk_detach_filter`. @returns 0, -EPERM when locked, -ENOENT without one. */
export function skDetachFilter(sk: Sock): number {
  if ((sk.flags & SOCKF_FILTER_LOCKED) !== 0) return -ERRNO.EPERM
  if (sk.filter === null) return -ERRNO.ENOENT
  skFilterUncharge(sk, sk.filter)
  sk.filter = null
  return 0
}

/** Models `sk_filter_uncharge`. */
export function skFilterUncharge(sk: Sock, filter: SkFilter): void {
  sk.omemAlloc -= filter.bytes
}

/**
 * Models `sk_filter_trim_cap` (net/core/filter.c): runs the filter and cuts the packet to what it keeps.
 *
 * @param cap bytes that must stay.
 * @returns 0, -ENOMEM for a packet from emergency reserves, -EPERM when the filter refuses it. The skb stays the caller's.
 */
export function skFilterTrimCap(cpu: Cpu, sk: Sock, skb: SkBuff, cap: number): number {
  if (skbPfmemalloc(skb) && (sk.flags & SOCKF_MEMALLOC) === 0) {
    sk.net.mib[PF_MEMALLOC_DROP] += 1
    return -ERRNO.ENOMEM
  }
  if (sk.filter === null) return 0
  const keep = bpfRunClassic(sk.filter.insns, skb)
  if (keep === 0) return -ERRNO.EPERM
  const len = Math.max(cap, keep)
  return len < skb.len ? pskbTrim(cpu, skb, len) : 0
}

/** Models `sk_filter`. */
export const skFilter = (cpu: Cpu, sk: Sock, skb: SkBuff): number => skFilterTrimCap(cpu, sk, skb, 1)

/** Models `bpf_prog_run` of a filter on a packet. @returns how many bytes it keeps, unsigned. */
export const skRunFilter = (filter: SkFilter, skb: SkBuff): number => bpfRunClassic(filter.insns, skb)
