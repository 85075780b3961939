/**
 * Sequence numbers: 32 bits that wrap, kept as signed integers so that they stay small integers in the
 * engine. A difference is taken with `| 0` and read as signed (which comes first) or unsigned (how far).
 */

/** Models `before` (include/net/tcp.h): does `a` come before `b`? */
export const before = (a: number, b: number): boolean => ((a - b) | 0) < 0

/** Models `after`: does `a` come after `b`? */
export const after = (a: number, b: number): boolean => ((b - a) | 0) < 0

/** Models `between`: is `seq` in `[low, high]`? */
export const between = (seq: number, low: number, high: number): boolean => (high - low) >>> 0 >= (seq - low) >>> 0

/** @returns how far `to` lies beyond `from`, 0 to 2^32 - 1. */
export const seqDistance = (from: number, to: number): number => (to - from) >>> 0
