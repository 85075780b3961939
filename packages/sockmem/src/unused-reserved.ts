/** Bytes that SO_RESERVE_MEM keeps and the socket is not using: a floor under giving back and under the send buffer. */
import type { Sock } from './sock.js'

/** Models `sk_unused_reserved_mem` (include/net/sock.h): bytes of SO_RESERVE_MEM that are not in use. */
export function skUnusedReservedMem(sk: Sock): number {
  if (sk.reservedMem === 0) return 0
  const unused = sk.reservedMem - sk.wmemQueued - sk.rmemAlloc
  return Math.max(unused, 0)
}
