/** Memory groups: counters with limits above one another, the TCP controller of v1, the hierarchy of v2, reserving. */
import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import {
  type MemCgroup,
  memCgroupChargeKmem,
  memCgroupStatSock,
  PAGE_COUNTER_MAX,
  PageCounter,
  pageCounterCharge,
  pageCounterTryCharge,
  pageCounterUncharge,
  SK_MEM_RECV,
  SK_MEM_SEND,
  type Sock,
  skCloneLock,
  skMemCharge,
  skMemReclaim,
  skMemSchedule,
  skMemUncharge,
  skRmemSchedule,
  sockReleaseReservedMemory,
  sockReserveMemory,
} from './index.js'
import { memCgroupSkAccept } from './memcg.js'
import { auditSocks, pagesOf, type TestSockets, testSock, testSockets } from './testing.js'

const PAGE = 4096

/** A socket made by a task of the group. */
function sockIn(t: TestSockets, memcg: MemCgroup | null): Sock {
  t.task.memcg = memcg
  const sk = testSock(t, t.stream)
  t.task.memcg = null
  return sk
}

function inSoftirqOn<T>(t: TestSockets, run: () => T): T {
  t.cpu.servingSoftirq += 1
  t.cpu.bhDisabled += 1
  const result = run()
  t.cpu.servingSoftirq -= 1
  t.cpu.bhDisabled -= 1
  return result
}

describe('page counters', () => {
  it.each([1, 2, 3])('charge all groups above or none, and name the one that refused (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const root = new PageCounter(null, true)
    const mid = new PageCounter(root, true)
    const leaves = [new PageCounter(mid, true), new PageCounter(mid, true), new PageCounter(root, true)]
    const used = [0, 0, 0]
    let top = 0
    for (let step = 0; step < 2000; step += 1) {
      const at = rng.below(3)
      const leaf = leaves[at]!
      if (rng.below(10) === 0) [root, mid, ...leaves][rng.below(5)]!.max = rng.below(60) || PAGE_COUNTER_MAX
      const pages = 1 + rng.below(8)
      const kind = rng.below(5)
      if (kind < 2) {
        const over = [leaf, leaf.parent!, leaf.parent!.parent].find((c) => c && c.usage + pages > c.max) ?? null
        const fails = over?.failcnt ?? 0
        expect(pageCounterTryCharge(leaf, pages)).toBe(over)
        if (over === null) used[at]! += pages
        else expect(over.failcnt).toBe(fails + 1)
      } else if (kind === 2) {
        pageCounterCharge(leaf, pages)
        used[at]! += pages
      } else if (used[at]! >= pages) {
        pageCounterUncharge(leaf, pages)
        used[at]! -= pages
      }
      expect(leaves.map((c) => c.usage)).toEqual(used)
      expect(mid.usage).toBe(used[0]! + used[1]!)
      expect(root.usage).toBe(mid.usage + used[2]!)
      top = Math.max(top, root.usage)
      expect(root.watermark).toBeGreaterThanOrEqual(top)
    }
  })
})

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('the TCP controller of v1 on %s', (profile) => {
  it('refuses above its limit, says so by pressure, and charges a packet that may not fail anyway', () => {
    const t = testSockets({ profile })
    const memcg = t.env.memcgs.create(null, false)
    expect(t.env.memcgs.setTcpLimit(memcg, 4)).toBe(0)
    const sk = sockIn(t, memcg)
    expect(skMemSchedule(t.cpu, sk, 4 * PAGE, SK_MEM_RECV)).toBe(true)
    expect([memcg.tcpmem.usage, memcg.tcpmemPressure]).toEqual([4, false])
    expect(skMemSchedule(t.cpu, sk, 1, SK_MEM_RECV)).toBe(false)
    expect([memcg.tcpmem.usage, memcg.tcpmemPressure]).toEqual([4, true])
    sk.wmemQueued = 10 * PAGE
    sk.forwardAlloc -= 4 * PAGE
    sk.sndbuf = 10 * PAGE
    expect(skMemSchedule(t.cpu, sk, 1, SK_MEM_SEND)).toBe(true)
    expect(memcg.tcpmem.usage).toBe(5)
    skMemReclaim(t.cpu, sk)
    expect(memcg.tcpmem.usage).toBe(4)
  })

  it('counts only sockets that are made once a limit was set', () => {
    const t = testSockets({ profile })
    const memcg = t.env.memcgs.create(null, false)
    const before = sockIn(t, memcg)
    t.env.memcgs.setTcpLimit(memcg, 1000)
    const after = sockIn(t, memcg)
    expect([before.memcg === null, after.memcg === memcg]).toEqual([true, true])
  })

  it('refuses a limit below what is in use', () => {
    const t = testSockets({ profile })
    const memcg = t.env.memcgs.create(null, false)
    t.env.memcgs.setTcpLimit(memcg, 1000)
    const sk = sockIn(t, memcg)
    skMemSchedule(t.cpu, sk, 10 * PAGE, SK_MEM_RECV)
    expect(t.env.memcgs.setTcpLimit(memcg, 9)).toBeLessThan(0)
    expect(t.env.memcgs.setTcpLimit(memcg, 10)).toBe(0)
  })
})

describe('the hierarchy of v2', () => {
  it('takes memory in batches of 64 pages and keeps what sockets give back for the next', () => {
    const t = testSockets()
    const memcg = t.env.memcgs.create(null, true)
    const sk = sockIn(t, memcg)
    skMemSchedule(t.cpu, sk, 3 * PAGE, SK_MEM_RECV)
    expect([memcg.memory.usage, memCgroupStatSock(t.env, memcg)]).toEqual([64, 3 * PAGE])
    skMemReclaim(t.cpu, sk)
    expect([memcg.memory.usage, memCgroupStatSock(t.env, memcg)]).toEqual([64, 0])
    t.env.memcgs.drain(memcg)
    expect(memcg.memory.usage).toBe(0)
  })

  it('gives a CPU one stock, which goes back when another group comes along', () => {
    const t = testSockets()
    const [a, b] = [t.env.memcgs.create(null, true), t.env.memcgs.create(null, true)]
    const [sa, sb] = [sockIn(t, a), sockIn(t, b)]
    skMemSchedule(t.cpu, sa, PAGE, SK_MEM_RECV)
    skMemSchedule(t.cpu, sb, PAGE, SK_MEM_RECV)
    expect([a.memory.usage, b.memory.usage]).toEqual([1, 64])
  })

  it('lets packets of softirq go over memory.max and counts each as an event', () => {
    const t = testSockets()
    const memcg = t.env.memcgs.create(null, true)
    t.env.memcgs.setMax(memcg, 8)
    const sk = sockIn(t, memcg)
    inSoftirqOn(t, () => {
      expect(skMemSchedule(t.cpu, sk, 8 * PAGE, SK_MEM_RECV)).toBe(true)
      expect(memcg.events.max).toBe(0)
      for (let i = 1; i <= 5; i += 1) {
        expect(skMemSchedule(t.cpu, sk, PAGE, SK_MEM_RECV)).toBe(true)
        expect([memcg.memory.usage, memcg.events.max]).toEqual([8 + i, i])
      }
    })
  })

  it('refuses a process at memory.max, after every try to reclaim', () => {
    const t = testSockets()
    const memcg = t.env.memcgs.create(null, true)
    t.env.memcgs.setMax(memcg, 8)
    const sk = sockIn(t, memcg)
    skMemSchedule(t.cpu, sk, 8 * PAGE, SK_MEM_SEND)
    sk.sndbuf = 1 << 20
    sk.userlocks = 1
    expect(skMemSchedule(t.cpu, sk, PAGE, SK_MEM_SEND)).toBe(false)
    expect(memcg.events.max).toBeGreaterThan(1)
    expect(memCgroupStatSock(t.env, memcg)).toBe(8 * PAGE)
    auditSocks(t.env)
  })

  it('is refused by the limit of any group above, whose event it is', () => {
    const t = testSockets()
    const top = t.env.memcgs.create(null, true)
    const leaf = t.env.memcgs.create(top, true)
    t.env.memcgs.setMax(top, 4)
    const sk = sockIn(t, leaf)
    inSoftirqOn(t, () => skMemSchedule(t.cpu, sk, 5 * PAGE, SK_MEM_RECV))
    expect([top.events.max, leaf.events.max]).toEqual([1, 0])
    expect([top.memory.usage, leaf.memory.usage]).toEqual([5, 5])
  })

  it('counts kernel objects by the byte and takes pages as they fill', () => {
    const t = testSockets()
    const memcg = t.env.memcgs.create(null, true)
    t.env.memcgs.setMax(memcg, 2)
    memCgroupChargeKmem(t.cpu, t.env, memcg, 3000)
    memCgroupChargeKmem(t.cpu, t.env, memcg, 1000)
    expect(memcg.memory.usage).toBe(1)
    memCgroupChargeKmem(t.cpu, t.env, memcg, 1000)
    expect(memcg.memory.usage).toBe(2)
  })

  it('settles the group when a socket is made or accepted, and charges what an accepted one already holds', () => {
    const t = testSockets()
    const memcg = t.env.memcgs.create(null, true)
    const listener = sockIn(t, null)
    const child = inSoftirqOn(t, () => skCloneLock(t.cpu, listener, t.mem.gfp.GFP_ATOMIC))!
    expect(child.memcg === null).toBe(true)
    skRmemSchedule(t.cpu, child, null, 5000)
    t.task.memcg = memcg
    memCgroupSkAccept(t.cpu, child, t.task, child.forwardAlloc)
    expect(child.memcg === memcg).toBe(true)
    expect(memCgroupStatSock(t.env, memcg)).toBe(2 * PAGE)
    // A listener's group is not its children's: who accepts them pays.
    const next = inSoftirqOn(t, () => skCloneLock(t.cpu, child, t.mem.gfp.GFP_ATOMIC))!
    expect(next.memcg).toBe(null)
    expect(memcg.socks).toBe(1)
  })

  it.each([1, 2, 3, 4])('knows the pages of its sockets over a random life (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const t = testSockets({ limits: [1e6, 1e6, 1e6] })
    const top = t.env.memcgs.create(null, true)
    const groups = [top, t.env.memcgs.create(top, true), t.env.memcgs.create(null, true)]
    const socks = Array.from({ length: 6 }, (_, i) => sockIn(t, groups[i % 3]!))
    const held = socks.map(() => [] as number[])
    for (let step = 0; step < 1500; step += 1) {
      const at = rng.below(socks.length)
      const sk = socks[at]!
      const cpu = t.cpus[rng.below(2)]!
      if (rng.below(30) === 0) t.env.memcgs.setMax(groups[rng.below(3)]!, 50 + rng.below(400))
      if (rng.below(2) === 0) {
        const bytes = 1 + rng.below(40_000)
        const soft = rng.below(2)
        cpu.servingSoftirq += soft
        const granted = skRmemSchedule(cpu, sk, null, bytes)
        cpu.servingSoftirq -= soft
        if (granted) {
          skMemCharge(sk, bytes)
          sk.rmemAlloc += bytes
          held[at]!.push(bytes)
        }
      } else if (held[at]!.length > 0) {
        const bytes = held[at]!.pop()!
        sk.rmemAlloc -= bytes
        skMemUncharge(cpu, sk, bytes)
      }
      auditSocks(t.env)
      for (const group of groups) {
        const own = socks.filter((s) => s.memcg === group).reduce((sum, s) => sum + pagesOf(s), 0)
        expect(group.sockPages).toBe(own)
        expect(group.memory.usage).toBeGreaterThanOrEqual(own)
      }
    }
    for (const [at, sk] of socks.entries())
      for (const bytes of held[at]!) {
        sk.rmemAlloc -= bytes
        skMemUncharge(t.cpu, sk, bytes)
      }
    for (const group of groups) t.env.memcgs.drain(group)
    expect(groups.map((group) => [group.memory.usage, group.sockPages])).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
    ])
  })
})

describe('SO_RESERVE_MEM', () => {
  it('needs a group that counts', () => {
    const t = testSockets()
    expect(sockReserveMemory(t.cpu, testSock(t, t.stream), PAGE)).toBe(-95)
  })

  it('takes whole pages from group and protocol, and gives whole pages back', () => {
    const t = testSockets()
    const memcg = t.env.memcgs.create(null, true)
    const sk = sockIn(t, memcg)
    expect(sockReserveMemory(t.cpu, sk, 5000)).toBe(0)
    expect([sk.reservedMem, sk.forwardAlloc, memCgroupStatSock(t.env, memcg)]).toEqual([8192, 8192, 8192])
    sockReleaseReservedMemory(t.cpu, sk, 5000)
    expect([sk.reservedMem, sk.forwardAlloc]).toEqual([4096, 4096])
    sockReleaseReservedMemory(t.cpu, sk, 4096)
    expect([sk.reservedMem, sk.forwardAlloc]).toEqual([0, 0])
    auditSocks(t.env)
  })

  it('is refused above the pressure line and by the group, without a trace', () => {
    const t = testSockets({ limits: [1, 2, 100] })
    t.env.memPcpuRsv[0] = 1
    const memcg = t.env.memcgs.create(null, true)
    const sk = sockIn(t, memcg)
    expect(sockReserveMemory(t.cpu, sk, 3 * PAGE)).toBe(-12)
    t.env.memcgs.setMax(memcg, 64)
    expect(sockReserveMemory(t.cpu, sk, 65 * PAGE)).toBe(-12)
    expect([sk.reservedMem, sk.forwardAlloc, t.stream.memory!.pages]).toEqual([0, 0, 0])
    expect(memCgroupStatSock(t.env, memcg)).toBe(0)
  })
})
