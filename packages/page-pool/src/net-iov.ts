/**
 * Memory that is not pages: a device's own buffers, which the CPU cannot read but which a page pool can lend like
 * pages. A memory provider owns areas of them; the stack carries them as negative `Netmem` numbers.
 */
import { assert } from '@netmem/base'
import type { Netmem, PagePool } from './types.js'

/** Models `struct net_iov` (include/net/netmem.h) as parallel arrays; index = `-1 - netmem`. */
export class NetIovs {
  count = 0
  pp = new Int32Array(0)
  ppRefCount = new Int32Array(0)
  /** Device address, bytes; 0 for none. */
  dmaAddr = new Float64Array(0)
}

/** Models `net_iov_to_netmem`. */
export const netIovToNetmem = (index: number): Netmem => -1 - index

/** Models `netmem_to_net_iov`. */
export const netmemToNetIov = (netmem: Netmem): number => -1 - netmem

/** Models `struct net_iov_area`: makes `count` net_iovs in a row. @returns the index of the first. */
export function netIovAreaCreate(niovs: NetIovs, count: number): number {
  const first = niovs.count
  const total = first + count
  if (total > niovs.pp.length) {
    const capacity = Math.max(64, 2 ** Math.ceil(Math.log2(total)))
    niovs.pp = grown(niovs.pp, new Int32Array(capacity))
    niovs.ppRefCount = grown(niovs.ppRefCount, new Int32Array(capacity))
    niovs.dmaAddr = grown(niovs.dmaAddr, new Float64Array(capacity))
  }
  niovs.count = total
  return first
}

function grown<A extends Int32Array | Float64Array>(from: A, to: A): A {
  to.set(from)
  return to
}

/** Models `net_mp_niov_set_dma_addr`. */
export function netMpNiovSetDmaAddr(niovs: NetIovs, index: number, dma: number): void {
  niovs.dmaAddr[index] = dma
}

/** Models `net_iov_dma_addr`'s pool check: a net_iov belongs to one pool at a time. */
export function assertNetIovFree(pool: PagePool, index: number): void {
  assert(pool.env.niovs.pp[index] === 0, 'net_mp_niov_set_page_pool: the net_iov already belongs to a pool')
}
