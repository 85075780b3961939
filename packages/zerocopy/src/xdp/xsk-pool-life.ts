/** The life of a buffer pool: made by the bind that brings its rings, gone with its last socket. */
import { assert, type Cpu } from '@netmem/base'
import { type XdpUmem, xdpPutUmem } from './xdp-umem.js'
import { XskBuffPool } from './xsk-buff-pool.js'
import type { XskEnv } from './xsk-env.js'
import { xskqDestroy } from './xsk-queue.js'
import type { XdpSock } from './xsk-sock.js'

/** Models `xp_create_and_assign_umem` (net/xdp/xsk_buff_pool.c): the socket's fill and completion ring become the pool's. */
export function xpCreateAndAssignUmem(env: XskEnv, xs: XdpSock, umem: XdpUmem): XskBuffPool {
  assert(xs.fqTmp !== null && xs.cqTmp !== null, 'a pool without its rings')
  const pool = new XskBuffPool(env, umem, xs.fqTmp, xs.cqTmp, xs.tx === null ? 0 : xs.tx.nentries)
  env.pools.push(pool)
  return pool
}

/** Models `xp_destroy`: before the pool was assigned to a device; its rings stay with the socket. */
export function xpDestroy(pool: XskBuffPool): void {
  pool.env.pools.splice(pool.env.pools.indexOf(pool), 1)
}

/** Models `xp_get_pool`. */
export function xpGetPool(pool: XskBuffPool): void {
  pool.users++
}

/** Models `xp_put_pool` and `xp_release_deferred`: the last user leaves the rest to a work item. @returns it was the last. */
export function xpPutPool(pool: XskBuffPool | null): boolean {
  if (pool === null) return false
  pool.users--
  if (pool.users !== 0) return false
  pool.env.scheduleWork((cpu) => {
    xpClearDev(cpu, pool)
    xskqDestroy(cpu, pool.fq)
    xskqDestroy(cpu, pool.cq)
    xdpPutUmem(pool.env, cpu, pool.umem)
    xpDestroy(pool)
  })
  return true
}

/** Models `xp_clear_dev`: the queue of the device is free again. */
export function xpClearDev(cpu: Cpu, pool: XskBuffPool): void {
  const dev = pool.netdev
  if (dev === null) return
  if (pool.dmaMapping !== null) dev.ops.xskPoolSetup?.(dev, null, pool.queueId, cpu)
  pool.umem.zc = false
  dev.xskPools[pool.queueId] = null
  pool.netdev = null
}
