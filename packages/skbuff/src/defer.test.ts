import { describe, expect, it } from 'vitest'
import { allocSkb, consumeSkb, napiAllocSkb, type SkBuff, skbAttemptDeferFree, skbDeferFreeFlush } from './index.js'
import { type SkbTestMachine, skbTestMachine } from './testing.js'

const far = (m: SkbTestMachine): SkBuff => allocSkb(m.env, m.cpus[1]!, 10, m.mem.gfp.GFP_ATOMIC)!

describe('skb_attempt_defer_free on 6.18', () => {
  it('frees at once what this CPU allocated: no consume event, the head to the napi cache', () => {
    const machine = skbTestMachine()
    const { env, cpu, mem, trace } = machine
    const seen: string[] = []
    trace.consumeSkb = () => seen.push('consume')
    trace.kmemCacheFree = () => seen.push('head')
    trace.kfree = (_c, site) => seen.push(site)
    skbAttemptDeferFree(cpu, allocSkb(env, cpu, 10, mem.gfp.GFP_ATOMIC)!, 'udp_recvmsg')
    expect([seen, env.napi[0]!.skbCount]).toEqual([['skb_release_data'], 1])
    machine.finish()
  })

  it('counts first: a list at its limit of 64 takes no more until it is flushed, and never takes counts back', () => {
    const kicks: number[] = []
    const machine = skbTestMachine({ slots: { kickDeferListPurge: (_cpu, target) => void kicks.push(target) } })
    const { env, cpu, cpus } = machine
    const node = env.deferNodes[1]![0]!
    const skbs = Array.from({ length: 70 }, () => far(machine))
    const kickedAt: number[] = []
    skbs.forEach((skb, i) => {
      const before = kicks.length
      skbAttemptDeferFree(cpu, skb, 'x')
      if (kicks.length > before) kickedAt.push(i)
      machine.audit()
    })
    // The 33rd finds max / 2 before it and kicks; the 65th and later are freed here.
    expect([kickedAt, kicks, node.count, env.napi[0]!.skbCount]).toEqual([[32], [1], 70, 6])
    skbDeferFreeFlush(cpus[1]!, env)
    expect([node.count, env.napi[1]!.skbCount]).toEqual([0, 32])
    machine.finish()
  })

  it('keeps one list per CPU and node', () => {
    const machine = skbTestMachine({ nodes: 2 })
    const { env, cpus } = machine
    expect(env.deferNodes[1]).toHaveLength(2)
    const skb = allocSkb(env, cpus[1]!, 10, machine.mem.gfp.GFP_ATOMIC)!
    skbAttemptDeferFree(cpus[0]!, skb, 'x')
    expect(env.deferNodes[1]!.map((node) => node.count)).toEqual(cpus[0]!.node === 0 ? [1, 0] : [0, 1])
    skbDeferFreeFlush(cpus[1]!, env)
    machine.finish()
  })

  it('does not defer when the limit is 0, or the home CPU is offline', () => {
    for (const options of [{ skbDeferMax: 0 }, { slots: { cpuOnline: () => false } }]) {
      const machine = skbTestMachine(options)
      const { env, cpu } = machine
      skbAttemptDeferFree(cpu, far(machine), 'x')
      expect(env.napi[0]!.skbCount).toBe(1)
      machine.finish()
    }
  })
})

describe('skb_attempt_defer_free on 6.1', () => {
  it('compares before it counts, on one list per CPU, and frees the rest to the slab', () => {
    const kicks: number[] = []
    const machine = skbTestMachine({
      profile: 'linux-6.1-x86_64',
      slots: { kickDeferListPurge: (_cpu, target) => void kicks.push(target) },
    })
    const { env, cpu, cpus, trace } = machine
    const freed: string[] = []
    trace.kmemCacheFree = (_c, site) => freed.push(site)
    const node = env.deferNodes[1]![0]!
    for (let i = 0; i < 70; i++) skbAttemptDeferFree(cpu, far(machine), 'tcp_recvmsg_locked')
    expect([node.count, kicks, freed.length, freed[0]]).toEqual([64, [1], 6, 'tcp_recvmsg_locked'])
    machine.audit()
    skbDeferFreeFlush(cpus[1]!, env)
    expect(node.count).toBe(0)
    machine.finish()
  })
})

it('frees at home what came last first', () => {
  for (const profile of ['linux-6.18-x86_64', 'linux-6.1-x86_64']) {
    const machine = skbTestMachine({ profile })
    const { env, cpu, cpus, trace } = machine
    const skbs = Array.from({ length: 3 }, () => far(machine))
    const order: number[] = []
    trace.consumeSkb = (_c, addr) => order.push(skbs.findIndex((skb) => skb.addr === addr))
    for (const skb of skbs) skbAttemptDeferFree(cpu, skb, 'x')
    skbDeferFreeFlush(cpus[1]!, env)
    expect(order).toEqual([2, 1, 0])
    machine.finish()
  }
})

it('lets a deferred packet keep its page fragment until it is home', () => {
  const machine = skbTestMachine()
  const { env, cpus, mem } = machine
  const skb = napiAllocSkb(env, cpus[1]!, 1, 1500)!
  const page = skb.headPage
  const refs = mem.pages.refcount[page]!
  skbAttemptDeferFree(cpus[0]!, skb, 'x')
  expect(mem.pages.refcount[page]).toBe(refs)
  skbDeferFreeFlush(cpus[1]!, env)
  expect(mem.pages.refcount[page]).toBe(refs - 1)
  consumeSkb(cpus[0]!, allocSkb(env, cpus[0]!, 1, mem.gfp.GFP_ATOMIC)!, 'x')
  machine.finish()
})
