/**
 * Memory groups as sockets know them. On hierarchy v2 a group's pages are one counter for everything, with a
 * per-CPU stock in front, and `sock` in memory.stat tells the sockets' part; on v1 the tcp controller counts
 * sockets alone. A socket belongs to the group of the task that made or accepted it, for good.
 *
 * Invariant: a group's sock pages = the pages its sockets took from their protocols since they joined.
 */
import { type Cpu, ERRNO, type Gfp, type KernelProfile } from '@netmem/base'
import {
  PAGE_COUNTER_MAX,
  PageCounter,
  pageCounterCharge,
  pageCounterTryCharge,
  pageCounterUncharge,
} from './page-counter.js'
import type { Sock } from './sock.js'
import type { SockEnv } from './sock-env.js'
import type { Task } from './task.js'

/** Models `MEMCG_CHARGE_BATCH`: pages that a CPU takes at once, and may keep. */
export const MEMCG_CHARGE_BATCH = 64
/** Models `MAX_RECLAIM_RETRIES`: how often a charge that may wait tries again. */
const MAX_RECLAIM_RETRIES = 16

/** Models the counters of memory.events. */
export interface MemcgEvents {
  low: number
  high: number
  max: number
  oom: number
  oom_kill: number
  oom_group_kill: number
}

/** Models `struct mem_cgroup`. */
export class MemCgroup {
  /** Everything of the group (v2 `memory`), in pages. */
  readonly memory: PageCounter
  /** Sockets alone (v1 `memory.kmem.tcp`), in pages. */
  readonly tcpmem: PageCounter
  /** v1: a limit was once set, which turns the accounting of sockets on. */
  tcpmemActive = false
  /** v1: the last charge failed. */
  tcpmemPressure = false
  /** v2: pages charged by sockets (`sock` of memory.stat, there in bytes). */
  sockPages = 0
  /** v2: bytes of kernel objects charged, and what is left of the page taken last. */
  kmemBytes = 0
  kmemLeft = 0
  /** v2: jiffies until which sockets should be modest; -1 never. */
  socketPressure = -1
  readonly events: MemcgEvents = { low: 0, high: 0, max: 0, oom: 0, oom_kill: 0, oom_group_kill: 0 }
  /** Sockets charged to it; they keep it alive. */
  socks = 0

  constructor(
    readonly id: number,
    readonly parent: MemCgroup | null,
    trackTcpFailcnt: boolean,
  ) {
    this.memory = new PageCounter(parent?.memory ?? null, true)
    this.tcpmem = new PageCounter(parent?.tcpmem ?? null, trackTcpFailcnt)
  }
}

/** Models `struct memcg_stock_pcp`: pages a CPU took from a group in advance. */
class Stock {
  cached: MemCgroup | null = null
  pages = 0
}

/** All groups of a machine and the state around them. */
export class Memcgs {
  /** True for the unified hierarchy (v2), false for v1. */
  onDfl = false
  /** Models the static key behind `mem_cgroup_sockets_enabled`. */
  socketsEnabled = false
  readonly list: MemCgroup[] = []
  readonly stocks: Stock[]
  private readonly trackTcpFailcnt: boolean

  constructor(cpuCount: number, profile: KernelProfile) {
    this.stocks = Array.from({ length: cpuCount }, () => new Stock())
    this.trackTcpFailcnt = profile.features.tcpmemFailcnt
  }

  /**
   * Models making a group below `parent` (null: below the root, which counts nothing).
   *
   * @param onDfl whether it is a group of hierarchy v2; the first group settles it for the machine.
   */
  create(parent: MemCgroup | null, onDfl: boolean): MemCgroup {
    if (this.list.length === 0) this.onDfl = onDfl
    const memcg = new MemCgroup(this.list.length + 1, parent, this.trackTcpFailcnt)
    this.list.push(memcg)
    if (this.onDfl) this.socketsEnabled = true
    return memcg
  }

  /** Models writing `memory.kmem.tcp.limit_in_bytes`. @returns 0 or -EBUSY when more is in use. */
  setTcpLimit(memcg: MemCgroup, pages: number): number {
    if (memcg.tcpmem.usage > pages) return -ERRNO.EBUSY
    memcg.tcpmem.max = pages
    memcg.tcpmemActive = true
    this.socketsEnabled = true
    return 0
  }

  /** Models writing `memory.max`, in pages; `PAGE_COUNTER_MAX` is "max". */
  setMax(memcg: MemCgroup, pages: number): void {
    memcg.memory.max = pages
    if (memcg.memory.usage <= pages) return
    this.drain(memcg)
    if (memcg.memory.usage <= pages) return
    // Socket memory cannot be reclaimed and there is no process here to kill.
    memcg.events.oom += 1
  }

  /** Models `drain_all_stock`: every CPU gives back what it holds in advance of this group. */
  drain(memcg: MemCgroup): void {
    for (const stock of this.stocks) if (stock.cached === memcg) this.drainStock(stock)
  }

  /** Models `consume_stock`. */
  consumeStock(cpu: Cpu, memcg: MemCgroup, pages: number): boolean {
    const stock = this.stocks[cpu.id]
    if (stock.cached !== memcg || stock.pages < pages) return false
    stock.pages -= pages
    return true
  }

  /** Models `refill_stock`. */
  refillStock(cpu: Cpu, memcg: MemCgroup, pages: number): void {
    const stock = this.stocks[cpu.id]
    if (stock.cached !== memcg) {
      this.drainStock(stock)
      stock.cached = memcg
    }
    stock.pages += pages
    if (stock.pages > MEMCG_CHARGE_BATCH) this.drainStock(stock)
  }

  private drainStock(stock: Stock): void {
    if (stock.cached !== null && stock.pages !== 0) pageCounterUncharge(stock.cached.memory, stock.pages)
    stock.pages = 0
  }
}

/** Models `mem_cgroup_sockets_enabled`: whether any group counts sockets at all. */
export const memCgroupSocketsEnabled = (env: SockEnv): boolean => env.memcgs.socketsEnabled

/** Models `mem_cgroup_under_socket_pressure`: v1 the group's own bit, v2 this group's or any above it. */
export function memCgroupUnderSocketPressure(env: SockEnv, memcg: MemCgroup): boolean {
  if (!env.memcgs.onDfl) return memcg.tcpmemPressure
  for (let m: MemCgroup | null = memcg; m !== null; m = m.parent)
    if (m.socketPressure >= 0 && env.jiffies < m.socketPressure) return true
  return false
}

/**
 * Models `mem_cgroup_charge_skmem`, since 6.18 `mem_cgroup_sk_charge` (mm/memcontrol.c).
 *
 * @param pages to charge.
 * @param gfp masks that may not fail, or of high priority on v2, go past the limit.
 * @returns false when the limit refused; nothing is charged then.
 */
export function memCgroupChargeSkmem(cpu: Cpu, env: SockEnv, memcg: MemCgroup, pages: number, gfp: Gfp): boolean {
  if (!env.memcgs.onDfl) return memcg1ChargeSkmem(env, memcg, pages, gfp)
  if (tryChargeMemcg(cpu, env, memcg, pages, gfp) !== 0) return false
  memcg.sockPages += pages
  return true
}

/** Models `mem_cgroup_uncharge_skmem`, since 6.18 `mem_cgroup_sk_uncharge`. */
export function memCgroupUncharge(cpu: Cpu, env: SockEnv, memcg: MemCgroup, pages: number): void {
  if (!env.memcgs.onDfl) {
    pageCounterUncharge(memcg.tcpmem, pages)
    return
  }
  memcg.sockPages -= pages
  env.memcgs.refillStock(cpu, memcg, pages)
}

/** Models `memcg1_charge_skmem` (mm/memcontrol-v1.c). */
function memcg1ChargeSkmem(env: SockEnv, memcg: MemCgroup, pages: number, gfp: Gfp): boolean {
  if (pageCounterTryCharge(memcg.tcpmem, pages) === null) {
    memcg.tcpmemPressure = false
    return true
  }
  memcg.tcpmemPressure = true
  if ((gfp & env.mem.gfp.NOFAIL) === 0) return false
  pageCounterCharge(memcg.tcpmem, pages)
  return true
}

/** Models `try_charge_memcg` (mm/memcontrol.c). @returns 0 or -ENOMEM. */
function tryChargeMemcg(cpu: Cpu, env: SockEnv, memcg: MemCgroup, pages: number, gfp: Gfp): number {
  const { memcgs } = env
  const masks = env.mem.gfp
  if (memcgs.consumeStock(cpu, memcg, pages)) return 0
  const batch = Math.max(MEMCG_CHARGE_BATCH, pages)
  if (pageCounterTryCharge(memcg.memory, batch) === null) {
    if (batch > pages) memcgs.refillStock(cpu, memcg, batch - pages)
    return 0
  }
  const over = pageCounterTryCharge(memcg.memory, pages)
  if (over === null) return 0
  const limited = groupOf(memcg, over)
  if ((gfp & masks.DIRECT_RECLAIM) !== 0) {
    // Everything a group of sockets holds is unreclaimable: each try counts, the first also empties the stocks.
    limited.events.max += 1
    memcgs.drain(limited)
    if (pageCounterTryCharge(memcg.memory, pages) === null) return 0
    limited.events.max += MAX_RECLAIM_RETRIES + 1
    if ((gfp & masks.RETRY_MAYFAIL) === 0) limited.events.oom += 1
  } else if ((gfp & (masks.HIGH | masks.NOFAIL)) !== 0) limited.events.max += 1
  if ((gfp & (masks.HIGH | masks.NOFAIL)) === 0) return -ERRNO.ENOMEM
  pageCounterCharge(memcg.memory, pages)
  return 0
}

function groupOf(memcg: MemCgroup, counter: PageCounter): MemCgroup {
  let m = memcg
  while (m.memory !== counter && m.parent !== null) m = m.parent
  return m
}

/** Models `obj_cgroup_charge`: kernel objects of a group, by the byte; whole pages are taken as needed. */
export function memCgroupChargeKmem(cpu: Cpu, env: SockEnv, memcg: MemCgroup, bytes: number): void {
  if (!env.memcgs.onDfl) return
  memcg.kmemBytes += bytes
  if (memcg.kmemLeft < bytes) {
    const pages = Math.ceil((bytes - memcg.kmemLeft) / env.pageSize)
    if (tryChargeMemcg(cpu, env, memcg, pages, env.mem.gfp.GFP_KERNEL) !== 0) return
    memcg.kmemLeft += pages * env.pageSize
  }
  memcg.kmemLeft -= bytes
}

/** Models `mem_cgroup_sk_alloc`: a new socket belongs to its maker's group, if that counts sockets. */
export function memCgroupSkAlloc(cpu: Cpu, sk: Sock, task: Task): void {
  const { env } = sk
  const memcg = task.memcg
  if (!env.memcgs.socketsEnabled || memcg === null || cpu.servingSoftirq !== 0 || cpu.hardirq !== 0) return
  if (!env.memcgs.onDfl && !memcg.tcpmemActive) return
  memcg.socks += 1
  sk.memcg = memcg
}

/** Models `mem_cgroup_sk_free`. */
export function memCgroupSkFree(_cpu: Cpu, sk: Sock): void {
  if (sk.memcg === null) return
  sk.memcg.socks -= 1
  sk.memcg = null
}

/**
 * Models the group part of `inet_csk_accept`, since 6.8 `__inet_accept`: an accepted socket joins the group of the task that accepts it, and
 * what it already holds is charged there without asking.
 *
 * @param heldBytes forward allocation and receive memory of the socket.
 */
export function memCgroupSkAccept(cpu: Cpu, sk: Sock, task: Task, heldBytes: number): void {
  const { env } = sk
  if (!env.memcgs.socketsEnabled) return
  memCgroupSkAlloc(cpu, sk, task)
  if (sk.memcg === null) return
  const pages = Math.ceil(heldBytes / env.pageSize)
  const gfp = env.mem.gfp
  if (pages !== 0) memCgroupChargeSkmem(cpu, env, sk.memcg, pages, (gfp.GFP_KERNEL | gfp.NOFAIL) as Gfp)
}

/** Models `sock` of memory.stat. Bytes. */
export const memCgroupStatSock = (env: SockEnv, memcg: MemCgroup): number => memcg.sockPages * env.pageSize

export { PAGE_COUNTER_MAX }
