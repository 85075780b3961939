import { Cpu, kernelProfile, Trace } from '@netmem/base'
import { memoryCreate } from '@netmem/memory'
import { pageFragAlloc, pageFragCacheCreate, pageFragFree } from '@netmem/page-frag'

const profile = kernelProfile('linux-6.18-x86_64')
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace: new Trace() })
const cpu = new Cpu(0, 0)
const cache = pageFragCacheCreate(mem)

// One order-3 page serves many packets; each holds one reference, the cache holds the rest in bulk.
const pieces = Array.from({ length: 17 }, () => pageFragAlloc(cache, cpu, 1920, mem.gfp.GFP_ATOMIC))
const chunk = cache.pfn
const references = (): number => mem.pages.refcount[chunk]!
if (references() !== cache.pagecntBias + pieces.length) throw new Error(`${references()} references`)

// All but one come back. The page is full, so the cache takes another, and one packet of 1920 bytes keeps 32 KiB.
for (const piece of pieces.slice(1)) pageFragFree(mem, cpu, piece, 'driver')
pageFragAlloc(cache, cpu, 1920, mem.gfp.GFP_ATOMIC)
if (cache.pfn === chunk || references() !== 1) throw new Error('the page was not left to its last holder')

// Only the last piece frees it.
pageFragFree(mem, cpu, pieces[0]!, 'driver')
if (references() !== 0) throw new Error('the page is still held')
