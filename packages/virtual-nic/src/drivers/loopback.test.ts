import type { Cpu } from '@netmem/base'
import { allocSkb, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  devAddPack,
  devOpen,
  devQueueXmit,
  devStatistics,
  ETH_P_ALL,
  ETH_P_IP,
  localBhDisable,
  localBhEnable,
  loopbackCreate,
  type NetDevice,
  type PacketType,
} from '../index.js'
import { assertNetDevsQuiescent, auditNetDevs, type TestNet, testNet } from '../testing.js'

function packet(net: TestNet, dev: NetDevice, payload: number): SkBuff {
  const skb = allocSkb(net.skbs, net.cpu, payload + 32, net.mem.gfp.GFP_KERNEL)!
  skbReserve(skb, 16)
  const at = skbPut(skb, 14 + payload) >>> 0
  net.mem.u8.fill(0, at, at + 14 + payload)
  net.mem.dv.setUint16(at + 12, ETH_P_IP)
  skb.dev = dev.id
  return skb
}

function up(net: TestNet): NetDevice {
  const dev = loopbackCreate(net.env) as NetDevice
  expect(devOpen(dev, net.cpu)).toBe(0)
  return dev
}

describe('the loopback device', () => {
  it('delivers a packet to the handler before the send call returns', () => {
    const net = testNet()
    const lo = up(net)
    const got: { len: number; softirq: number }[] = []
    devAddPack(net.env, {
      type: ETH_P_IP,
      func: (cpu: Cpu, skb: SkBuff) => {
        got.push({ len: skb.len, softirq: cpu.servingSoftirq })
        consumeSkb(cpu, skb, 'ip_rcv')
        return 0
      },
    })
    expect(devQueueXmit(net.env, net.cpu, packet(net, lo, 100))).toBe(0)
    expect(got).toEqual([{ len: 100, softirq: 1 }])
    expect(devStatistics(lo)).toMatchObject({ rx_packets: 1, tx_packets: 1, rx_bytes: 100, tx_bytes: 100 })
    assertNetDevsQuiescent(net.env)
  })

  it('holds packets in the backlog while bottom halves are off, and max_backlog + 1 of them fit', () => {
    const net = testNet()
    const lo = up(net)
    net.env.sysctl.maxBacklog = 10
    const drops: string[] = []
    net.trace.kfreeSkb = (_cpu, _skb, _location, _protocol, reason) => drops.push(reason)
    let delivered = 0
    devAddPack(net.env, {
      type: ETH_P_IP,
      func: (cpu, skb) => {
        delivered++
        consumeSkb(cpu, skb, 'ip_rcv')
        return 0
      },
    })
    localBhDisable(net.cpu)
    for (let i = 0; i < 64; i++) {
      devQueueXmit(net.env, net.cpu, packet(net, lo, 100))
      auditNetDevs(net.env)
    }
    expect(delivered).toBe(0)
    localBhEnable(net.env, net.cpu)
    expect(delivered).toBe(11)
    expect(drops).toEqual(Array(53).fill('CPU_BACKLOG'))
    expect(net.env.softnet[0]!.dropped).toBe(53)
    expect(devStatistics(lo)).toMatchObject({ rx_packets: 11, tx_packets: 11, rx_dropped: 53 })
    assertNetDevsQuiescent(net.env)
  })

  it('gives every tap a reference and frees the packet once, when no protocol wants it', () => {
    const net = testNet()
    const lo = up(net)
    const seen: string[] = []
    const tap = (name: string): PacketType => ({
      type: ETH_P_ALL,
      func: (cpu, skb) => {
        seen.push(`${name} ${skb.pktType}`)
        consumeSkb(cpu, skb, 'packet_rcv')
        return 0
      },
    })
    devAddPack(net.env, tap('a'))
    devAddPack(net.env, tap('b'))
    devQueueXmit(net.env, net.cpu, packet(net, lo, 64))
    // Outgoing (4) first, then for this host... the destination is not ours, so other host (3).
    expect(seen).toEqual(['b 4', 'a 4', 'b 0', 'a 0'])
    assertNetDevsQuiescent(net.env)
  })

  it('tells the sender that the device is down', () => {
    const net = testNet()
    const lo = loopbackCreate(net.env) as NetDevice
    lo.txq[0]!.qdisc = null
    const reasons: string[] = []
    net.trace.kfreeSkb = (_cpu, _skb, _location, _protocol, reason) => reasons.push(reason)
    expect(devQueueXmit(net.env, net.cpu, packet(net, lo, 64))).toBe(-100)
    expect(reasons).toEqual(['DEV_READY'])
  })
})
