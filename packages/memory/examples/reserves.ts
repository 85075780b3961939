import { Cpu, kernelProfile, Trace } from '@netmem/base'
import {
  allocPages,
  failNth,
  gfpText,
  kfree,
  kmalloc,
  kmallocCacheName,
  leakReport,
  memoryCreate,
  pageIsPfmemalloc,
  trackAllocations,
} from '@netmem/memory'

const mem = memoryCreate({ profile: kernelProfile('linux-6.18-x86_64'), bytes: 64 << 20, cpus: 2, trace: new Trace() })
const cpu = new Cpu(0, 0)
const { GFP_ATOMIC, GFP_KERNEL_ACCOUNT, MEMALLOC, NOWARN } = mem.gfp

// The mask decides which caches serve: memory charged to a cgroup comes from caches of its own.
const message = kmalloc(mem, cpu, 700, GFP_KERNEL_ACCOUNT, 'alloc_skb_with_frags')
if (kmallocCacheName(mem, message) !== 'kmalloc-cg-1k') throw new Error('700 accounted bytes are in the wrong cache')
kfree(mem, cpu, message, 'skb_free_head')

// Take pages until an interrupt gets none: what is left is for those who will give memory back.
const tracker = trackAllocations(mem)
let pages = 0
while (allocPages(mem, cpu, GFP_ATOMIC | NOWARN, 0, -1, 'napi_alloc_skb') !== 0) pages++
const reserve = allocPages(mem, cpu, GFP_ATOMIC | MEMALLOC, 0, -1, 'sock_alloc_send_pskb')
if (!pageIsPfmemalloc(mem, reserve)) throw new Error('a page from the reserve does not say so')

// Any allocation can be made to fail, and everything that is live has an owner.
mem.fault = failNth(1).bySite('__alloc_skb')
if (kmalloc(mem, cpu, 512, GFP_ATOMIC, '__alloc_skb') !== 0) throw new Error('it should have failed')
const [most] = leakReport(tracker.live())
if (most !== `${pages} x pages of 4096 = ${pages * 4096} bytes from napi_alloc_skb`) throw new Error(most)
if (gfpText(mem, GFP_ATOMIC | NOWARN) !== 'GFP_ATOMIC|__GFP_NOWARN') throw new Error('the kernel prints it otherwise')
