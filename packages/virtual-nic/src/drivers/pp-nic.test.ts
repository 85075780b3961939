import { deviceCreate } from '@netmem/dma'
import { allocSkb, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { describe, expect, it } from 'vitest'
import {
  devAddPack,
  devClose,
  devOpen,
  devQueueXmit,
  devStatistics,
  ETH_P_IP,
  type NetDevice,
  type PpNic,
  type PpNicParams,
  ppNicCreate,
} from '../index.js'
import { assertNetDevsQuiescent, auditNetDevs, type TestNet, testNet } from '../testing.js'

function card(net: TestNet, params: Partial<PpNicParams> = {}): { dev: NetDevice; nic: PpNic } {
  const device = deviceCreate(net.dma, { name: '0000:00:03.0' })
  const dev = ppNicCreate(net.env, { name: 'eth0', device, ...params }) as NetDevice
  return { dev, nic: dev.priv as PpNic }
}

/** A UDP frame: 42 bytes of headers, then bytes counting up. */
function frame(payload: number, port = 7000): Uint8Array {
  const f = new Uint8Array(42 + payload)
  const dv = new DataView(f.buffer)
  dv.setUint16(12, ETH_P_IP)
  f[14] = 0x45
  dv.setUint16(16, 28 + payload)
  f[22] = 64
  f[23] = 17
  dv.setUint32(26, 0x0a000002)
  dv.setUint32(30, 0x0a000001)
  dv.setUint16(34, 9999)
  dv.setUint16(36, port)
  dv.setUint16(38, 8 + payload)
  for (let i = 0; i < payload; i++) f[42 + i] = i & 255
  return f
}

describe('the page-pool driver', () => {
  it('writes a frame into a posted page and delivers that very page', () => {
    const net = testNet()
    const { dev, nic } = card(net)
    expect(devOpen(dev, net.cpu)).toBe(0)
    auditNetDevs(net.env)
    const got: SkBuff[] = []
    devAddPack(net.env, {
      type: ETH_P_IP,
      func: (_cpu, skb) => {
        got.push(skb)
        return 0
      },
    })
    const f = frame(100)
    nic.hw.receive(f, 0, f.length)
    expect(got).toHaveLength(1)
    const skb = got[0]!
    expect(skb.len).toBe(128)
    expect(skb.truesize).toBe(4352)
    expect([...net.mem.u8.subarray(skb.data >>> 0, (skb.data >>> 0) + 128)]).toEqual([...f.subarray(14)])
    auditNetDevs(net.env)
    consumeSkb(net.cpu, skb, 'ip_rcv')
    expect(devStatistics(dev)).toMatchObject({ rx_packets: 1, rx_bytes: 142 })
    devClose(dev, net.cpu)
    assertNetDevsQuiescent(net.env)
    expect(net.pools.pools.filter((p) => p !== null)).toEqual([])
  })

  it('chains the buffers of a long frame', () => {
    const net = testNet()
    const { dev, nic } = card(net)
    devOpen(dev, net.cpu)
    let seen = 0
    devAddPack(net.env, {
      type: ETH_P_IP,
      func: (cpu, skb) => {
        seen = skb.len
        consumeSkb(cpu, skb, 'ip_rcv')
        return 0
      },
    })
    const f = frame(8000)
    nic.hw.receive(f, 0, f.length)
    expect(seen).toBe(8028)
    auditNetDevs(net.env)
  })

  it('counts what arrives without a posted buffer as missed and goes on when buffers come back', () => {
    const net = testNet()
    const { dev, nic } = card(net, { rxRing: 16, rxFrames: 1000, rxUsecs: 50 })
    devOpen(dev, net.cpu)
    let seen = 0
    devAddPack(net.env, {
      type: ETH_P_IP,
      func: (cpu, skb) => {
        seen++
        consumeSkb(cpu, skb, 'ip_rcv')
        return 0
      },
    })
    const f = frame(64)
    for (let i = 0; i < 20; i++) nic.hw.receive(f, 0, f.length)
    expect(devStatistics(dev).rx_missed_errors).toBe(5)
    net.clock.runUntil(net.clock.nowNs + 50_000)
    expect(seen).toBe(15)
    for (let i = 0; i < 4; i++) nic.hw.receive(f, 0, f.length)
    net.clock.runUntil(net.clock.nowNs + 50_000)
    expect(seen).toBe(19)
    assertNetDevsQuiescent(net.env)
  })

  it('sends a packet over the wire and frees it on completion', () => {
    const net = testNet()
    const { dev, nic } = card(net)
    devOpen(dev, net.cpu)
    const wire: Uint8Array[] = []
    nic.hw.wire = { receive: (bytes, at, len) => void wire.push(bytes.slice(at, at + len)) }
    const consumed: string[] = []
    net.trace.consumeSkb = (_cpu, _skb, location) => consumed.push(location)
    for (let i = 0; i < 600; i++) {
      const skb = allocSkb(net.skbs, net.cpu, 200, net.mem.gfp.GFP_KERNEL)!
      skbReserve(skb, 16)
      const at = skbPut(skb, 100) >>> 0
      net.mem.u8.fill(i & 255, at, at + 100)
      skb.dev = dev.id
      expect(devQueueXmit(net.env, net.cpu, skb)).toBe(0)
      auditNetDevs(net.env)
    }
    expect(wire).toHaveLength(600)
    expect(wire[7]![0]).toBe(7)
    expect(new Set(consumed)).toEqual(new Set(['napi_consume_skb']))
    expect(consumed).toHaveLength(600)
    devClose(dev, net.cpu)
    assertNetDevsQuiescent(net.env)
  })
})
