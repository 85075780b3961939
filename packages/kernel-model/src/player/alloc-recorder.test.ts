import { type Addr, Cpu, type Gfp, kernelProfiles, type Pfn, Trace } from '@netmem/base'
import { memoryCreate } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import type { Kernel } from '../kernel.js'
import { AllocRecorder, summarise } from './alloc-recorder.js'

const profile = kernelProfiles['linux-6.18-x86_64']

function recorder() {
  const trace = new Trace()
  const mem = memoryCreate({ profile, bytes: 8 << 20, cpus: 1, trace })
  const rcu = { running: 0 }
  // The recorder needs three things of a kernel; booting one would hide what it does with them.
  const kernel = { trace, mem, socks: { rcu } } as unknown as Kernel
  const cpu = new Cpu(0, 0)
  return { trace, cpu, rcu, gfp: mem.gfp.GFP_KERNEL as Gfp, recorder: new AllocRecorder(kernel) }
}

describe('the recorder of allocation traces', () => {
  it('labels objects by their address, and an address that comes back anew', () => {
    const { trace, cpu, gfp, recorder: rec } = recorder()
    rec.start()
    const at = 4096 as Addr
    trace.kmalloc!(cpu, '__alloc_skb', at, 1000, 1024, gfp, -1, false)
    trace.kfree!(cpu, 'skb_release_data', at)
    trace.kmalloc!(cpu, '__alloc_skb', at, 300, 512, gfp, -1, true)
    trace.kfree!(cpu, 'skb_release_data', (at + 8192) as Addr)
    expect(rec.stop()).toEqual([
      { ev: 'kmalloc', cache: 'kmalloc-1k', site: '__alloc_skb', req: 1000, alloc: 1024, gfp: 'GFP_KERNEL', id: 'a0' },
      { ev: 'kfree', cache: 'kmalloc-1k', site: 'skb_release_data', id: 'a0' },
      {
        ev: 'kmalloc',
        cache: 'kmalloc-cg-512',
        site: '__alloc_skb',
        req: 300,
        alloc: 512,
        gfp: 'GFP_KERNEL',
        accounted: true,
        id: 'a1',
      },
      { ev: 'kfree', site: 'skb_release_data', id: 'u0' },
    ])
  })

  it('sees a pointer into an object as that object and an offset', () => {
    const { trace, cpu, gfp, recorder: rec } = recorder()
    rec.start()
    trace.kmemCacheAlloc!(cpu, '__alloc_skb', 8192 as Addr, 'skbuff_fclone_cache', 456, 512, gfp, -1, false)
    trace.consumeSkb!(cpu, (8192 + 224) as Addr, 'tcp_v4_rcv')
    expect(rec.stop()[1]).toEqual({ ev: 'consume_skb', site: 'tcp_v4_rcv', id: 'a0+224' })
  })

  it('keeps network memory only, and nothing of what a grace period frees', () => {
    const { trace, cpu, gfp, rcu, recorder: rec } = recorder()
    rec.start()
    trace.kmalloc!(cpu, 'do_sys_poll', 64 as Addr, 8, 8, gfp, -1, false)
    trace.mmPageAlloc!(cpu, 5 as Pfn, 0, gfp, 0, 'do_anonymous_page')
    rcu.running = 1
    trace.kmemCacheFree!(cpu, 'sk_prot_free', 128 as Addr, 'UDP')
    rcu.running = 0
    trace.kfree!(cpu, 'skb_release_data', 0 as Addr)
    expect(rec.stop()).toEqual([])
  })

  it('writes a run of pages that a pool takes as one event', () => {
    const { trace, cpu, recorder: rec } = recorder()
    rec.start()
    cpu.servingSoftirq = 1
    for (let i = 0; i < 64; i++) trace.pagePoolStateHold!(cpu, 7, (100 + i) as Pfn, i)
    trace.pagePoolStateRelease!(cpu, 7, 101 as Pfn, 0)
    expect(rec.stop()).toEqual([
      { ev: 'page_pool_hold', pool: 'pp0', id: 'p0..p63', hold: 63, count: 64, ctx: 'softirq' },
      { ev: 'page_pool_release', pool: 'pp0', id: 'p1', release: 0, count: 1, ctx: 'softirq' },
    ])
  })

  it('sums events up by what tells them apart', () => {
    const { trace, cpu, gfp, recorder: rec } = recorder()
    rec.start()
    for (const at of [64, 128])
      trace.kmemCacheAlloc!(cpu, 'kmalloc_reserve', at as Addr, 'skbuff_small_head', 576, 576, gfp, -1, false)
    trace.kfreeSkb!(cpu, 64 as Addr, 'udp_queue_rcv_skb', 2048, 'SOCKET_RCVBUFF', 0)
    expect(summarise(rec.stop())).toEqual({
      'kfree_skb udp_queue_rcv_skb SOCKET_RCVBUFF': 1,
      'kmem_cache_alloc skbuff_small_head kmalloc_reserve 576': 2,
    })
  })
})
