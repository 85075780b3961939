/** Making a pool: validation in the kernel's order, so that the first thing wrong decides the error. */
import { type Cpu, ERRNO, type Gfp, NULL } from '@netmem/base'
import { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_NONE, type DmaDirection } from '@netmem/dma'
import { kfree, kmallocNode } from '@netmem/memory'
import { PtrRing } from './ptr-ring.js'
import {
  PagePool,
  type PagePoolParams,
  type PagePools,
  PP_FLAG_ALLOW_UNREADABLE_NETMEM,
  PP_FLAG_DMA_MAP,
  PP_FLAG_DMA_SYNC_DEV,
  PP_FLAG_PAGE_FRAG,
  PP_FLAG_SYSTEM_POOL,
} from './types.js'

const DEFAULT_RING_ENTRIES = 1024
const MAX_RING_ENTRIES = 16384
const MAX_PAGE_ORDER = 10
const POINTER_BYTES = 8

/**
 * Models `page_pool_create` (net/core/page_pool.c).
 *
 * @returns the pool, which `pagePoolDestroy` ends; or a negative errno, and then nothing is left behind:
 *   -EINVAL for flags, direction or sync rules, -ENOMEM, -EOPNOTSUPP for a provider without mapping and syncing.
 */
export function pagePoolCreate(env: PagePools, cpu: Cpu, params: PagePoolParams): PagePool | number {
  return pagePoolCreatePercpu(env, cpu, params, -1)
}

/** Models `page_pool_create_percpu`. @param cpuid the CPU that may always recycle directly, -1 for none. */
export function pagePoolCreatePercpu(
  env: PagePools,
  cpu: Cpu,
  params: PagePoolParams,
  cpuid: number,
): PagePool | number {
  checkTypes(params)
  const site = 'page_pool_create_percpu'
  const gfp = (env.mem.gfp.GFP_KERNEL | env.mem.gfp.ZERO) as Gfp
  const structBytes = env.profile.structs.page_pool?.size ?? 1664
  const structAddr = kmallocNode(env.mem, cpu, structBytes, gfp, params.nid ?? -1, site)
  if (structAddr === NULL) return -ERRNO.ENOMEM
  const made = init(env, cpu, params, cpuid, structAddr)
  if (typeof made !== 'number') return made
  env.trace.printk?.(`${env.profile.features.pagePoolNetlink ? site : 'page_pool_create'}() gave up with errno ${made}`)
  kfree(env.mem, cpu, structAddr, site)
  return made
}

/** Models `page_pool_init`, then `page_pool_list`. */
function init(
  env: PagePools,
  cpu: Cpu,
  params: PagePoolParams,
  cpuid: number,
  structAddr: PagePool['structAddr'],
): PagePool | number {
  const flags = params.flags ?? 0
  const dmaDir: DmaDirection = params.dmaDir ?? DMA_BIDIRECTIONAL
  if ((flags & ~knownFlags(env)) !== 0) return -ERRNO.EINVAL
  const entries = params.poolSize ? Math.min(params.poolSize, MAX_RING_ENTRIES) : DEFAULT_RING_ENTRIES
  const dmaMap = (flags & PP_FLAG_DMA_MAP) !== 0
  if (dmaMap && dmaDir !== DMA_FROM_DEVICE && dmaDir !== DMA_BIDIRECTIONAL) return -ERRNO.EINVAL
  const dmaSync = (flags & PP_FLAG_DMA_SYNC_DEV) !== 0
  if (dmaSync && (!dmaMap || !params.maxLen)) return -ERRNO.EINVAL
  const ringAddr = kmallocNode(env.mem, cpu, entries * POINTER_BYTES, ringGfp(env), -1, 'ptr_ring_init')
  if (ringAddr === NULL) return -ERRNO.ENOMEM
  const order = params.order ?? 0
  const slot = env.freeSlots.at(-1) ?? env.pools.length
  const id = env.nextId
  const pool = new PagePool(
    env,
    slot,
    id,
    params.label ?? `pool ${id}`,
    order,
    env.profile.page_size << order,
    params.nid ?? -1,
    params.dev ?? null,
    params.napi ?? null,
    dmaDir,
    params.maxLen ?? 0,
    params.offset ?? 0,
    flags,
    params.netdev ?? 0,
    params.queueIdx ?? 0,
    params.initCallback ?? null,
    cpuid,
    new PtrRing(entries, env.profile.SMP_CACHE_BYTES),
    structAddr,
    ringAddr,
  )
  pool.dmaMap = dmaMap
  pool.syncDev = dmaSync ? pool.dev : null
  const err = attachProvider(pool)
  if (err !== 0) {
    kfree(env.mem, cpu, ringAddr, 'ptr_ring_cleanup')
    return err
  }
  list(env, pool)
  return pool
}

// Where an rx queue was told to take unreadable memory from, and the queue's driver can use it.
function attachProvider(pool: PagePool): number {
  const { env } = pool
  const wants = (pool.flags & PP_FLAG_ALLOW_UNREADABLE_NETMEM) !== 0 && !env.profile.features.pagePoolFragFlag
  const provider = wants ? (env.rxQueueProvider?.(pool.netdev, pool.queueIdx) ?? null) : null
  if (provider === null) return pool.order > MAX_PAGE_ORDER ? -ERRNO.EINVAL : 0
  if (!pool.dmaMap || pool.syncDev === null) return -ERRNO.ENOTSUP
  pool.mpOps = provider.ops
  pool.mpPriv = provider.priv
  const err = provider.ops.init(pool)
  if (err === 0) return 0
  env.trace.printk?.(`page_pool_init() mem-provider init failed ${err}`)
  return err
}

// Models `page_pool_list`: the number by which users know the pool, and its place on the device.
function list(env: PagePools, pool: PagePool): void {
  if (pool.slot === env.pools.length) env.pools.push(pool)
  else {
    env.freeSlots.pop()
    env.pools[pool.slot] = pool
  }
  env.nextId = env.nextId === 0x7fffffff ? 1 : env.nextId + 1
  if (pool.netdev !== 0) env.notify?.('add', pool)
}

function knownFlags(env: PagePools): number {
  if (env.profile.features.pagePoolFragFlag) return PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV | PP_FLAG_PAGE_FRAG
  return PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV | PP_FLAG_SYSTEM_POOL | PP_FLAG_ALLOW_UNREADABLE_NETMEM
}

const ringGfp = (env: PagePools): Gfp => (env.mem.gfp.GFP_KERNEL | env.mem.gfp.ZERO) as Gfp

// What no kernel struct could hold is the host's mistake, not an errno.
function checkTypes(params: PagePoolParams): void {
  const whole = (name: string, value: number | undefined, min: number, max: number): void => {
    if (value !== undefined && (!Number.isInteger(value) || value < min || value > max))
      throw new RangeError(`page pool: ${name} ${value} is not a whole number from ${min} to ${max}`)
  }
  whole('order', params.order, 0, 0xffff)
  whole('poolSize', params.poolSize, 0, 0xffffffff)
  whole('nid', params.nid, -1, 1023)
  whole('maxLen', params.maxLen, 0, 0xffffffff)
  whole('offset', params.offset, 0, 0xffffffff)
  whole('flags', params.flags, 0, 0xffffffff)
  whole('dmaDir', params.dmaDir, DMA_BIDIRECTIONAL, DMA_NONE)
  const maps = ((params.flags ?? 0) & PP_FLAG_DMA_MAP) !== 0
  if (maps && !params.dev) throw new RangeError('page pool: PP_FLAG_DMA_MAP needs a device (dev)')
}
