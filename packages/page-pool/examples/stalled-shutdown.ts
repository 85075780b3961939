import { Cpu, EventQueue, kernelProfile, type Pfn, Trace } from '@netmem/base'
import { memoryCreate } from '@netmem/memory'
import {
  napiPpPutPage,
  pagePoolAllocPages,
  pagePoolCreate,
  pagePoolDestroy,
  pagePoolGetStats,
  pagePoolHoldersReport,
  pagePoolRecycleDirect,
  pagePoolRegisterHolders,
  pagePoolsInit,
} from '@netmem/page-pool'

const profile = kernelProfile('linux-6.18-x86_64')
const trace = new Trace()
const events = new EventQueue()
const cpus = [new Cpu(0, 0)]
const cpu = cpus[0]!
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
const log: string[] = []
trace.printk = (words) => log.push(words)

const pools = pagePoolsInit({ mem, profile, trace, events, cpus })
const pool = pagePoolCreate(pools, cpu, { poolSize: 256, label: 'eth0 rx 0' })
if (typeof pool === 'number') throw new Error(`page_pool_create: ${pool}`)

// 64 pages come from the page allocator at once; one goes straight back, one stays in a socket's queue.
const dropped = pagePoolAllocPages(cpu, pool, mem.gfp.GFP_ATOMIC)
const queued = pagePoolAllocPages(cpu, pool, mem.gfp.GFP_ATOMIC)
pagePoolRecycleDirect(cpu, pool, dropped)
const stats = pagePoolGetStats(pool)
if (stats.slow !== 1 || stats.fast !== 1 || stats.cached !== 1) throw new Error(JSON.stringify(stats))

// The driver is unloaded while the packet waits: the kernel's complaint, and the answer to it.
pagePoolDestroy(cpu, pool)
events.runUntil(61e9)
if (log[0] !== 'page_pool_release_retry() stalled pool shutdown: id 1, 1 inflight 60 sec') throw new Error(log[0])
pagePoolRegisterHolders(pools, (visit) => visit(queued, { kind: 'skb', name: '17', where: 'udp 7000 receive queue' }))
const [page] = pagePoolHoldersReport(pool)
if (page!.netmem !== queued || page!.holders[0]!.where !== 'udp 7000 receive queue') throw new Error('wrong holder')

// The packet is read, its page comes back, and the next look of the worker ends the pool.
napiPpPutPage(pools, cpu, queued as Pfn)
events.runUntil(62e9)
if (!pool.freed) throw new Error('the pool is still there')
