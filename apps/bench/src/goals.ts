/**
 * The goals of the project's performance notes (G1 to G17), as data: what is measured, against whom, and which
 * way the ratio goes. A ratio is only meaningful inside one run, where every round measures the peer right
 * after the model.
 */

export interface Goal {
  /** `G1`, or `G6-single` where a goal has several figures. */
  id: string
  name: string
  unit: 'ns/op' | 'ns/packet' | 'ns/event' | 'percent' | 'count' | 'GB/s' | 'packets/s'
  /** A case of `cases.ts`. */
  ours: string
  /** A case, or a native figure (`dpdk.`, `libc.`, `twin.`, `kernel.`); absent where the goal is absolute. */
  peer?: string
  /** Counts what the engine did in steady state instead of time: collections and deoptimisations. */
  steady?: true
  /** `ours/peer` or `peer/ours`: what the goal's line divides. */
  ratio?: 'ours/peer' | 'peer/ours'
  /** Where the ratio should be. */
  goal: { most: number } | { least: number }
}

export const goals: Goal[] = [
  {
    id: 'G1',
    name: 'skb alloc + free, hot',
    unit: 'ns/op',
    ours: 'skb.hot',
    peer: 'dpdk.mbuf.alloc_free.1',
    ratio: 'ours/peer',
    goal: { most: 2.0 },
  },
  {
    id: 'G2',
    name: 'skb alloc + free, 1024 live',
    unit: 'ns/op',
    ours: 'skb.window1024',
    peer: 'dpdk.mbuf.alloc_free.window1024',
    ratio: 'ours/peer',
    goal: { most: 1.7 },
  },
  {
    id: 'G3',
    name: 'skb clone + free',
    unit: 'ns/op',
    ours: 'skb.clone',
    peer: 'dpdk.mbuf.clone_free',
    ratio: 'ours/peer',
    goal: { most: 0.4 },
  },
  {
    id: 'G4',
    name: 'page_pool, fast path',
    unit: 'ns/op',
    ours: 'pool.fast',
    peer: 'dpdk.mempool.get_put.1.cache256',
    ratio: 'ours/peer',
    goal: { most: 0.7 },
  },
  {
    id: 'G5',
    name: 'page_pool, 1024 live',
    unit: 'ns/op',
    ours: 'pool.window1024',
    peer: 'dpdk.mempool.get_put.1.window1024',
    ratio: 'ours/peer',
    goal: { most: 1.1 },
  },
  {
    id: 'G6-single',
    name: 'descriptor ring, one at a time',
    unit: 'ns/op',
    ours: 'ring.single',
    peer: 'dpdk.ring.spsc.1',
    ratio: 'ours/peer',
    goal: { most: 1.1 },
  },
  {
    id: 'G6-bulk32',
    name: 'descriptor ring, 32 at a time',
    unit: 'ns/op',
    ours: 'ring.bulk32',
    peer: 'dpdk.ring.spsc.bulk32',
    ratio: 'ours/peer',
    goal: { most: 2.5 },
  },
  {
    id: 'G11',
    name: 'Buffer.allocUnsafe(2048) against skb, 1024 live',
    unit: 'ns/op',
    ours: 'skb.window1024',
    peer: 'buffer.allocUnsafe.2048',
    ratio: 'peer/ours',
    goal: { least: 25 },
  },
  {
    id: 'G12',
    name: 'new Uint8Array(2048) against skb, 1024 live',
    unit: 'ns/op',
    ours: 'skb.window1024',
    peer: 'buffer.Uint8Array.2048',
    ratio: 'peer/ours',
    goal: { least: 60 },
  },
  {
    id: 'G13',
    name: 'Buffer.allocUnsafe(64) against skb, 1024 live',
    unit: 'ns/op',
    ours: 'skb.window1024',
    peer: 'buffer.allocUnsafe.64',
    ratio: 'peer/ours',
    goal: { least: 3 },
  },
  {
    id: 'M-buddy',
    name: 'page alloc + free, order 0',
    unit: 'ns/op',
    ours: 'memory.page',
    peer: 'libc.malloc_free.256',
    ratio: 'ours/peer',
    goal: { most: 3 },
  },
  {
    id: 'M-slub',
    name: 'kmem_cache alloc + free, 256 bytes',
    unit: 'ns/op',
    ours: 'memory.slub',
    peer: 'libc.malloc_free.256',
    ratio: 'ours/peer',
    goal: { most: 3 },
  },
  {
    id: 'M-kmalloc',
    name: 'kmalloc(256) + kfree',
    unit: 'ns/op',
    ours: 'memory.kmalloc',
    peer: 'libc.malloc_free.256',
    ratio: 'ours/peer',
    goal: { most: 3 },
  },
  {
    id: 'G15',
    name: 'event queue, 1024 pending',
    unit: 'ns/event',
    ours: 'events.1024',
    peer: 'flatqueue.1024',
    ratio: 'peer/ours',
    goal: { least: 1.7 },
  },
  {
    id: 'G17-alloc',
    name: 'collections + deopts in 5 M skb alloc + free',
    unit: 'count',
    ours: 'skb.hot',
    steady: true,
    goal: { most: 0 },
  },
  {
    id: 'G17-window',
    name: 'collections + deopts in 5 M skb, 1024 live',
    unit: 'count',
    ours: 'skb.window1024',
    steady: true,
    goal: { most: 0 },
  },
  {
    id: 'G17-clone',
    name: 'collections + deopts in 5 M clone + free',
    unit: 'count',
    ours: 'skb.clone',
    steady: true,
    goal: { most: 0 },
  },
]
