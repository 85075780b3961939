/** The nine numbers of SO_MEMINFO, in the order of `enum sk_meminfo`. */
import type { Sock } from './sock.js'

export const SK_MEMINFO_RMEM_ALLOC = 0
export const SK_MEMINFO_RCVBUF = 1
export const SK_MEMINFO_WMEM_ALLOC = 2
export const SK_MEMINFO_SNDBUF = 3
export const SK_MEMINFO_FWD_ALLOC = 4
export const SK_MEMINFO_WMEM_QUEUED = 5
export const SK_MEMINFO_OPTMEM = 6
export const SK_MEMINFO_BACKLOG = 7
export const SK_MEMINFO_DROPS = 8
export const SK_MEMINFO_VARS = 9

/** Names of the nine, as tools print them. */
export const SK_MEMINFO_NAMES = [
  'rmem_alloc',
  'rcvbuf',
  'wmem_alloc',
  'sndbuf',
  'fwd_alloc',
  'wmem_queued',
  'optmem',
  'backlog',
  'drops',
] as const

/**
 * Models `sk_get_meminfo` (net/core/sock.c).
 *
 * @param out at least nine long; bytes, the last one packets.
 */
export function skMeminfo(sk: Sock, out: Int32Array): Int32Array {
  out[SK_MEMINFO_RMEM_ALLOC] = sk.rmemAlloc
  out[SK_MEMINFO_RCVBUF] = sk.rcvbuf
  out[SK_MEMINFO_WMEM_ALLOC] = sk.wmemAlloc - 1
  out[SK_MEMINFO_SNDBUF] = sk.sndbuf
  out[SK_MEMINFO_FWD_ALLOC] = skForwardAllocGet(sk)
  out[SK_MEMINFO_WMEM_QUEUED] = sk.wmemQueued
  out[SK_MEMINFO_OPTMEM] = sk.omemAlloc
  out[SK_MEMINFO_BACKLOG] = sk.backlogLen
  out[SK_MEMINFO_DROPS] = sk.drops
  return out
}

/** Models `sk_forward_alloc_get`. */
export const skForwardAllocGet = (sk: Sock): number => sk.proto.forwardAllocGet?.(sk) ?? sk.forwardAlloc
