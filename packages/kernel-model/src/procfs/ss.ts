/**
 * What `ss -m` prints of a socket. It asks the kernel by netlink (`INET_DIAG_SKMEMINFO`), of which /proc has no
 * file; the numbers are those of SO_MEMINFO.
 */
import {
  SK_MEMINFO_BACKLOG,
  SK_MEMINFO_DROPS,
  SK_MEMINFO_FWD_ALLOC,
  SK_MEMINFO_OPTMEM,
  SK_MEMINFO_RCVBUF,
  SK_MEMINFO_RMEM_ALLOC,
  SK_MEMINFO_SNDBUF,
  SK_MEMINFO_VARS,
  SK_MEMINFO_WMEM_ALLOC,
  SK_MEMINFO_WMEM_QUEUED,
  type Sock,
  skMeminfo,
} from '@netmem/sockmem'

/** The letters of `skmem:(...)` in their order, each with its place in SO_MEMINFO. */
const LETTERS: readonly (readonly [string, number])[] = [
  ['r', SK_MEMINFO_RMEM_ALLOC],
  ['rb', SK_MEMINFO_RCVBUF],
  ['t', SK_MEMINFO_WMEM_ALLOC],
  ['tb', SK_MEMINFO_SNDBUF],
  ['f', SK_MEMINFO_FWD_ALLOC],
  ['w', SK_MEMINFO_WMEM_QUEUED],
  ['o', SK_MEMINFO_OPTMEM],
  ['bl', SK_MEMINFO_BACKLOG],
  ['d', SK_MEMINFO_DROPS],
]

/** @returns `skmem:(r0,rb131072,t0,tb16384,f0,w0,o0,bl0,d0)`; bytes, `d` packets. */
export function ssSkmem(sk: Sock): string {
  const info = skMeminfo(sk, new Int32Array(SK_MEMINFO_VARS))
  // Unsigned, as the tool prints them.
  return `skmem:(${LETTERS.map(([letter, at]) => `${letter}${info[at]! >>> 0}`).join(',')})`
}
