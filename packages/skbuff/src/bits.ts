/** Bytes in and out of an skb wherever they lie: linear part, page fragments, fragment list. */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import { memcpy } from '@netmem/memory'
import { fragAddr, fragLen, fragList, nrFrags } from './shared-info.js'
import { type SkBuff, skbHeadlen } from './sk-buff.js'

/**
 * Models `skb_copy_bits` (net/core/skbuff.c). `offset` counts from `data` and may be negative down to the
 * headroom. @returns 0, or `-EFAULT` beyond the end (nothing promised about `to` then).
 */
export function skbCopyBits(skb: SkBuff, offset: number, to: Addr, len: number): number {
  if (offset > skb.len - len) return -ERRNO.EFAULT
  const mem = skb.env.mem
  let out = to | 0
  let left = len
  let at = offset
  const head = skbHeadlen(skb)
  if (at < head) {
    const chunk = Math.min(head - at, left)
    memcpy(mem, out as Addr, ((skb.data + at) | 0) as Addr, chunk)
    left -= chunk
    if (left === 0) return 0
    at += chunk
    out = (out + chunk) | 0
  }
  if (skb.unreadable) return -ERRNO.EFAULT
  let start = head
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const end = start + fragLen(skb, i)
    if (end > at) {
      const chunk = Math.min(end - at, left)
      memcpy(mem, out as Addr, ((fragAddr(skb, i) + at - start) | 0) as Addr, chunk)
      left -= chunk
      at += chunk
      out = (out + chunk) | 0
    }
    start = end
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = skb.env.skbs[id]!
    const end = start + frag.len
    if (end > at) {
      const chunk = Math.min(end - at, left)
      if (skbCopyBits(frag, at - start, out as Addr, chunk) !== 0) return -ERRNO.EFAULT
      left -= chunk
      at += chunk
      out = (out + chunk) | 0
    }
    start = end
    id = frag.next
  }
  return left === 0 ? 0 : -ERRNO.EFAULT
}

/** Models `skb_store_bits` (net/core/skbuff.c): the other direction. @returns 0 or `-EFAULT`. */
export function skbStoreBits(skb: SkBuff, offset: number, from: Addr, len: number): number {
  if (offset > skb.len - len) return -ERRNO.EFAULT
  const mem = skb.env.mem
  let src = from | 0
  let left = len
  let at = offset
  const head = skbHeadlen(skb)
  if (at < head) {
    const chunk = Math.min(head - at, left)
    memcpy(mem, ((skb.data + at) | 0) as Addr, src as Addr, chunk)
    left -= chunk
    if (left === 0) return 0
    at += chunk
    src = (src + chunk) | 0
  }
  if (skb.unreadable) return -ERRNO.EFAULT
  let start = head
  const count = nrFrags(skb)
  for (let i = 0; i < count && left > 0; i++) {
    const end = start + fragLen(skb, i)
    if (end > at) {
      const chunk = Math.min(end - at, left)
      memcpy(mem, ((fragAddr(skb, i) + at - start) | 0) as Addr, src as Addr, chunk)
      left -= chunk
      at += chunk
      src = (src + chunk) | 0
    }
    start = end
  }
  for (let id = fragList(skb); id !== 0 && left > 0; ) {
    const frag = skb.env.skbs[id]!
    const end = start + frag.len
    if (end > at) {
      const chunk = Math.min(end - at, left)
      if (skbStoreBits(frag, at - start, src as Addr, chunk) !== 0) return -ERRNO.EFAULT
      left -= chunk
      at += chunk
      src = (src + chunk) | 0
    }
    start = end
    id = frag.next
  }
  return left === 0 ? 0 : -ERRNO.EFAULT
}

/**
 * Models `skb_header_pointer`: the address of `len` bytes at `offset`, in place when they are linear, else
 * copied to `scratch`. @returns `NULL` beyond the end.
 */
export function skbHeaderPointer(skb: SkBuff, offset: number, len: number, scratch: Addr): Addr {
  if (skbHeadlen(skb) - offset >= len) return ((skb.data + offset) | 0) as Addr
  return skbCopyBits(skb, offset, scratch, len) === 0 ? scratch : (0 as Addr)
}

/** Tells reports that the CPU copied bytes; `site` is the kernel function that did. */
export function traceCopy(cpu: Cpu, skb: SkBuff, site: string, bytes: number): void {
  const trace = skb.env.trace
  if (trace.copy !== null) trace.copy(cpu, site, bytes)
}
