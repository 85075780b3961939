import { ERRNO, kernelProfiles } from '@netmem/base'
import { failNth } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { describe, expect, it } from 'vitest'
import { devOpen, netdevSetFeature } from './dev-register.js'
import { loopbackCreate } from './drivers/loopback.js'
import { vethCreate } from './drivers/veth.js'
import { NETIF_F_GRO } from './features.js'
import { devStatistics, ethHwAddrSet, type NetDevice } from './net-device.js'
import { assertNetDevsQuiescent, auditNetDevs, testNet } from './testing.js'
import { XDP_DROP, XDP_PASS, XDP_TX } from './xdp.js'
import { bpfProgTestRunXdp } from './xdp-test-run.js'

type ProfileName = keyof typeof kernelProfiles

function machine(name: ProfileName) {
  const net = testNet({ profile: name })
  const lo = loopbackCreate(net.env) as NetDevice
  const cpu = net.cpus[0]!
  devOpen(lo, cpu)
  let holds = 0
  let releases = 0
  net.trace.pagePoolStateHold = () => {
    holds += 1
  }
  net.trace.pagePoolStateRelease = () => {
    releases += 1
  }
  const run = (verdict: number, len: number, repeat: number, batch = 0): number =>
    bpfProgTestRunXdp(net.env, cpu, {
      prog: { name: 'verdict', hasFrags: false, run: () => verdict },
      dev: lo,
      len,
      repeat,
      batch,
    })
  return { ...net, cpu, lo, run, pages: () => [holds, releases] }
}

describe('a live run of an XDP program', () => {
  it('uses the pages of one refill again and again when the program drops', () => {
    for (const name of Object.keys(kernelProfiles) as ProfileName[]) {
      const m = machine(name)
      expect(m.run(XDP_DROP, 64, 1000)).toBe(0)
      expect(m.pages()).toEqual([64, 64])
      assertNetDevsQuiescent(m.env)
    }
  })

  it('loses the pages of passed frames where an skb does not know the way back to the pool', () => {
    const old = machine('linux-6.1-x86_64')
    expect(old.run(XDP_PASS, 64, 200)).toBe(0)
    expect(old.pages()).toEqual([256, 256])
    const today = machine('linux-6.18-x86_64')
    expect(today.run(XDP_PASS, 64, 200)).toBe(0)
    expect(today.pages()).toEqual([64, 64])
    auditNetDevs(today.env)
  })

  it('takes lengths from an Ethernet header to what fits one page behind its bookkeeping, and batches to 256', () => {
    const m = machine('linux-6.1-x86_64')
    expect(m.run(XDP_DROP, 13, 1)).toBe(-ERRNO.EINVAL)
    expect(m.run(XDP_DROP, 14, 1)).toBe(0)
    expect(m.run(XDP_DROP, 4096 - 320 - 256 - 152, 1)).toBe(0)
    expect(m.run(XDP_DROP, 4096 - 320 - 256 - 151, 1)).toBe(-ERRNO.EINVAL)
    expect(m.run(XDP_DROP, 64, 1, 257)).toBe(-ERRNO.E2BIG)
  })

  it('goes on to its end whatever the verdicts are, and runs once when it is told no number', () => {
    const m = machine('linux-6.18-x86_64')
    const words: string[] = []
    m.trace.printk = (text) => words.push(text)
    expect(m.run(99, 64, 3)).toBe(0)
    expect(words).toEqual(Array(3).fill('Illegal XDP return value 99 on prog verdict, expect packet loss!'))
    // Loopback takes no frames of programs: they are returned.
    expect(m.run(XDP_TX, 64, 100)).toBe(0)
    let runs = 0
    const prog = { name: 'count', hasFrags: false, run: () => (runs++, XDP_DROP) }
    expect(bpfProgTestRunXdp(m.env, m.cpu, { prog, dev: m.lo, len: 64, repeat: 0 })).toBe(0)
    expect(runs).toBe(1)
    assertNetDevsQuiescent(m.env)
  })

  it('sends frames back out of a device that takes them', () => {
    const m = machine('linux-6.18-x86_64')
    const ends = vethCreate(m.env, { name: 'v0' }, { name: 'v1' }, m.cpu) as [NetDevice, NetDevice]
    for (const dev of ends) {
      ethHwAddrSet(dev, dev === ends[0] ? '02:00:00:00:00:01' : '02:00:00:00:00:02')
      devOpen(dev, m.cpu)
    }
    netdevSetFeature(ends[1], NETIF_F_GRO, true, m.cpu)
    const prog = { name: 'tx', hasFrags: false, run: () => XDP_TX }
    expect(bpfProgTestRunXdp(m.env, m.cpu, { prog, dev: ends[0], len: 64, repeat: 20 })).toBe(0)
    expect(devStatistics(ends[1]).rx_packets).toBe(20)
    auditNetDevs(m.env)
  })

  it('gives everything back when the n-th allocation fails, for every n', () => {
    const m = machine('linux-6.18-x86_64')
    m.run(XDP_PASS, 64, 10)
    for (let n = 1; ; n++) {
      m.mem.fault = failNth(n)
      const err = m.run(XDP_PASS, 64, 100, 16)
      const { failed } = m.mem.fault
      m.mem.fault = null
      auditMemory(m.mem)
      assertNetDevsQuiescent(m.env)
      if (failed === 0) {
        expect(err).toBe(0)
        break
      }
      expect([0, -ERRNO.ENOMEM]).toContain(err)
    }
    const [holds, releases] = m.pages()
    expect(holds).toBe(releases)
  })
})
