/** Moving bytes inside physical memory. The only copies there are; everything else passes references. */
import { type Addr, assert } from '@netmem/base'
import type { Memory } from './memory.js'

/** Up to this many bytes a loop over words beats the call of `copyWithin`. */
const SMALL_COPY_BYTES = 64

/** Models `memcpy` and `memmove`: overlapping ranges are fine. @param bytes 0 or more. */
export function memcpy(mem: Memory, dst: Addr, src: Addr, bytes: number): void {
  if (__ASSERT__) {
    assert(bytes >= 0, 'memcpy: negative length')
    assert(bytes === 0 || (inMemory(mem, dst, bytes) && inMemory(mem, src, bytes)), 'memcpy: outside of memory')
  }
  const from = src >>> 0
  const to = dst >>> 0
  if (bytes <= SMALL_COPY_BYTES && (bytes & 3) === 0 && (to <= from || to >= from + bytes))
    copyWords(mem.dv, to, from, bytes)
  else mem.u8.copyWithin(to, from, from + bytes)
}

/** Forwards, by words that need not be aligned: packet payloads begin two bytes after a word. */
function copyWords(dv: DataView, to: number, from: number, bytes: number): void {
  const end = from + bytes
  const by = to - from
  let at = from
  for (; at + 16 <= end; at += 16) {
    const a = dv.getInt32(at, true)
    const b = dv.getInt32(at + 4, true)
    const c = dv.getInt32(at + 8, true)
    const d = dv.getInt32(at + 12, true)
    dv.setInt32(at + by, a, true)
    dv.setInt32(at + by + 4, b, true)
    dv.setInt32(at + by + 8, c, true)
    dv.setInt32(at + by + 12, d, true)
  }
  for (; at < end; at += 4) dv.setInt32(at + by, dv.getInt32(at, true), true)
}

const inMemory = (mem: Memory, addr: Addr, bytes: number): boolean =>
  addr >>> 0 >= 4096 && (addr >>> 0) + bytes <= mem.bytes - 4096

/** Models `memset`. */
export function memset(mem: Memory, dst: Addr, value: number, bytes: number): void {
  const to = dst >>> 0
  mem.u8.fill(value, to, to + bytes)
}

/** Models `memcmp`: 0 when equal, else the difference of the first bytes that differ. */
export function memcmp(mem: Memory, a: Addr, b: Addr, bytes: number): number {
  const left = a >>> 0
  const right = b >>> 0
  for (let i = 0; i < bytes; i++) {
    const difference = mem.u8[left + i]! - mem.u8[right + i]!
    if (difference !== 0) return difference
  }
  return 0
}

/** Writes bytes of the host into modelled memory: how test data and captured packets get in. */
export function writeBytes(mem: Memory, dst: Addr, bytes: Uint8Array): void {
  mem.u8.set(bytes, dst >>> 0)
}

/** @returns a copy of modelled memory for the host. */
export const readBytes = (mem: Memory, src: Addr, bytes: number): Uint8Array =>
  mem.u8.slice(src >>> 0, (src >>> 0) + bytes)
