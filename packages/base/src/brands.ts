/**
 * Numbers that cannot trade places: frame numbers, addresses and sizes are all `number` at run time,
 * and distinct types at compile time. Nothing here costs anything when it runs.
 */

declare const brand: unique symbol
type Brand<Name extends string> = number & { readonly [brand]: Name }

/** A page frame number: the index of a `struct page`. 0 is reserved and never handed out. */
export type Pfn = Brand<'Pfn'>

/**
 * Models a kernel virtual address in the direct map, which here is the identity: the byte offset into
 * physical memory, kept as a signed 32-bit integer so that it stays a small integer for 4 GiB of memory.
 * Arithmetic wraps with `| 0`, a byte is `u8[addr >>> 0]`, an aligned word `i32[addr >>> 2]`. 0 is `NULL`.
 */
export type Addr = Brand<'Addr'>

/** A physical address in bytes, never negative; exact up to 2^53. What reports and pcap print. */
export type PhysAddr = Brand<'PhysAddr'>

/** An address as a device sees it (bus address or IOVA), in bytes, never negative. */
export type DmaAddr = Brand<'DmaAddr'>

/** Models a `gfp_t` allocation mask (bits of `GFP_*`/`__GFP_*` as in @netmem/memory). */
export type Gfp = Brand<'Gfp'>

/** Virtual nanoseconds since boot: an integer kept exactly in a double up to 2^53 (104 days). */
export type Ns = Brand<'Ns'>

export const NO_PFN = 0 as Pfn
export const NULL = 0 as Addr

/** @returns the physical address of a direct-map address, in bytes. */
export const physAddr = (addr: Addr): PhysAddr => (addr >>> 0) as PhysAddr
