/**
 * The linear part: four pointers into one block. `head ≤ data ≤ tail ≤ end` at all times; the functions that
 * would break it panic as the kernel does, and say the same words.
 *
 *     head          data             tail           end
 *      |  headroom   |   linear bytes  |  tailroom   |  shared info
 */
import { type Addr, bug, type Cpu, NULL } from '@netmem/base'
import type { SkBuff } from './sk-buff.js'

/** Models `skb_reserve`: moves an empty skb's data away from the head. */
export function skbReserve(skb: SkBuff, bytes: number): void {
  skb.data = ((skb.data + bytes) | 0) as Addr
  skb.tail = ((skb.tail + bytes) | 0) as Addr
}

/** Models `skb_put` (net/core/skbuff.c): room at the tail. @returns its address. @throws KernelBug `skb_over_panic`. */
export function skbPut(skb: SkBuff, bytes: number): Addr {
  const at = skb.tail
  const tail = ((at + bytes) | 0) as Addr
  skb.tail = tail
  skb.len += bytes
  // The block never straddles 2 GiB, so the difference of two of its addresses is exact.
  if (skb.dataLen !== 0 || ((skb.end - tail) | 0) < 0) skbPutPanic(skb, bytes)
  return at
}

/** Models `__skb_put`: as above, trusting the caller. */
export function skbPutUnchecked(skb: SkBuff, bytes: number): Addr {
  const at = skb.tail
  skb.tail = ((at + bytes) | 0) as Addr
  skb.len += bytes
  return at
}

/** Models `skb_put_zero`. */
export function skbPutZero(skb: SkBuff, bytes: number): Addr {
  const at = skbPut(skb, bytes)
  skb.env.u8.fill(0, at >>> 0, (at >>> 0) + bytes)
  return at
}

/** Models `skb_put_data`: the bytes come from elsewhere in memory. */
export function skbPutData(skb: SkBuff, from: Addr, bytes: number): Addr {
  const at = skbPut(skb, bytes)
  skb.env.u8.copyWithin(at >>> 0, from >>> 0, (from >>> 0) + bytes)
  return at
}

/** Models `skb_push` (net/core/skbuff.c): room at the front. @returns its address. @throws KernelBug `skb_under_panic`. */
export function skbPush(skb: SkBuff, bytes: number): Addr {
  const data = ((skb.data - bytes) | 0) as Addr
  skb.data = data
  skb.len += bytes
  if (((data - skb.head) | 0) < 0) skbPanic(skb, bytes, 'skb_under_panic')
  return data
}

/** Models `__skb_push`. */
export function skbPushUnchecked(skb: SkBuff, bytes: number): Addr {
  skb.data = ((skb.data - bytes) | 0) as Addr
  skb.len += bytes
  return skb.data
}

/** Models `skb_pull` (net/core/skbuff.c): takes bytes off the front. @returns the new data, `NULL` beyond `len`. */
export function skbPull(skb: SkBuff, bytes: number): Addr {
  return bytes > skb.len ? NULL : skbPullUnchecked(skb, bytes)
}

/** Models `__skb_pull`. @throws KernelBug when the bytes are not in the linear part. */
export function skbPullUnchecked(skb: SkBuff, bytes: number): Addr {
  skb.len -= bytes
  if (skb.len < skb.dataLen) bug('skb_pull: more than the linear part')
  skb.data = ((skb.data + bytes) | 0) as Addr
  return skb.data
}

/** Models `skb_reset_tail_pointer`. */
export function skbResetTailPointer(skb: SkBuff): void {
  skb.tail = skb.data
}

/** Models `skb_set_tail_pointer`: `offset` bytes behind `data`. */
export function skbSetTailPointer(skb: SkBuff, offset: number): void {
  skb.tail = ((skb.data + offset) | 0) as Addr
}

/** Models `__skb_set_length`: the linear part alone. @throws KernelBug on a nonlinear skb (the kernel warns and goes on). */
export function skbSetLength(skb: SkBuff, len: number): void {
  if (skb.dataLen !== 0) bug('__skb_set_length: nonlinear')
  skb.len = len
  skbSetTailPointer(skb, len)
}

// Headers: offsets from `head`, so that a new head block needs no fixing up of pointers inside the old one.

/** Models `skb_reset_mac_header`. */
export function skbResetMacHeader(skb: SkBuff): void {
  skb.macHeader = (skb.data - skb.head) | 0
}
/** Models `skb_reset_network_header`. */
export function skbResetNetworkHeader(skb: SkBuff): void {
  skb.networkHeader = (skb.data - skb.head) | 0
}
/** Models `skb_reset_transport_header`. */
export function skbResetTransportHeader(skb: SkBuff): void {
  skb.transportHeader = (skb.data - skb.head) | 0
}
/** Models `skb_set_network_header`: `offset` bytes behind `data`. */
export function skbSetNetworkHeader(skb: SkBuff, offset: number): void {
  skb.networkHeader = ((skb.data - skb.head) | 0) + offset
}
/** Models `skb_set_transport_header`. */
export function skbSetTransportHeader(skb: SkBuff, offset: number): void {
  skb.transportHeader = ((skb.data - skb.head) | 0) + offset
}
/** Models `skb_mac_header`. */
export const skbMacHeader = (skb: SkBuff): Addr => ((skb.head + skb.macHeader) | 0) as Addr
/** Models `skb_network_header`. */
export const skbNetworkHeader = (skb: SkBuff): Addr => ((skb.head + skb.networkHeader) | 0) as Addr
/** Models `skb_transport_header`. */
export const skbTransportHeader = (skb: SkBuff): Addr => ((skb.head + skb.transportHeader) | 0) as Addr
/** Models `skb_mac_header_was_set`. */
export const skbMacHeaderWasSet = (skb: SkBuff): boolean => skb.macHeader !== 0xffff
/** Models `skb_transport_header_was_set`. */
export const skbTransportHeaderWasSet = (skb: SkBuff): boolean => skb.transportHeader !== 0xffff
/** Models `skb_mac_offset`: negative when `data` is behind the header. */
export const skbMacOffset = (skb: SkBuff): number => (skb.head + skb.macHeader - skb.data) | 0
/** Models `skb_network_offset`. */
export const skbNetworkOffset = (skb: SkBuff): number => (skb.head + skb.networkHeader - skb.data) | 0
/** Models `skb_transport_offset`. */
export const skbTransportOffset = (skb: SkBuff): number => (skb.head + skb.transportHeader - skb.data) | 0
/** Models `skb_network_header_len`. */
export const skbNetworkHeaderLen = (skb: SkBuff): number => skb.transportHeader - skb.networkHeader
/** Models `skb_reset_mac_len`. */
export function skbResetMacLen(skb: SkBuff): void {
  skb.macLen = skb.networkHeader - skb.macHeader
}

/** Models `skb_orphan`: uncharges the owner now, before the skb is freed. */
export function skbOrphan(cpu: Cpu, skb: SkBuff): void {
  if (skb.destructor !== 0) {
    skb.env.destructors[skb.destructor]!(cpu, skb)
    skb.destructor = 0
    skb.sk = 0
  } else if (skb.sk !== 0) bug('skb_orphan: a socket without a destructor')
}

// Cold path: the kernel stops here.

function skbPutPanic(skb: SkBuff, bytes: number): never {
  if (skb.dataLen !== 0) bug('kernel BUG at include/linux/skbuff.h: SKB_LINEAR_ASSERT in skb_put')
  return skbPanic(skb, bytes, 'skb_over_panic')
}

/** Models `skb_panic`: prints where everything is and stops the machine. */
export function skbPanic(skb: SkBuff, bytes: number, words: 'skb_over_panic' | 'skb_under_panic'): never {
  const hex = (n: number) => `0x${(n >>> 0).toString(16)}`
  const dev = skb.dev === 0 ? '<NULL>' : skb.env.slots.devName(skb.dev)
  return bug(
    `${words}: len:${skb.len} put:${bytes} head:${hex(skb.head)} data:${hex(skb.data)} ` +
      `tail:${hex(skb.tail - skb.head)} end:${hex(skb.end - skb.head)} dev:${dev}`,
  )
}
