import { mibIndex, type Sock, SockAddr } from '@netmem/sockmem'
import { ppCard, udpFrame } from '@netmem/virtual-nic/testing'
import { describe, expect, it } from 'vitest'
import { inetAddrAdd } from '../route.js'
import { testInet } from '../test-machine.js'

function machine() {
  const t = testInet()
  const { dev, nic } = ppCard(t.net, {})
  inetAddrAdd(t.inet, dev, 0x0a000001, 24)
  const reasons: string[] = []
  t.net.trace.kfreeSkb = (_cpu, _skb, site, _protocol, reason) => reasons.push(`${site}: ${reason}`)
  const sk = t.udp()
  const any = new SockAddr()
  any.family = 2
  any.port = 7000
  expect(sk.ops.bind(t.cpu, t.task, sk, any)).toBe(0)
  const feed = (frame: Uint8Array) => nic.hw.receive(frame, 0, frame.length)
  return { t, sk, feed, reasons }
}

/** A frame whose checksum is wrong. */
const spoilt = (payload: number): Uint8Array => {
  const frame = udpFrame(payload, { checksum: true })
  frame[40]! ^= 0x55
  return frame
}

const waiting = (sk: Sock): number => sk.receiveQueue.qlen

describe('UDP from a card', () => {
  it('sums short datagrams up as they come in, and long ones when they are read', () => {
    const { t, sk, feed, reasons } = machine()
    // 68 bytes and the header are the longest that is summed at once.
    feed(spoilt(68))
    expect(reasons.splice(0)).toEqual(['__udp4_lib_rcv: UDP_CSUM'])
    expect(waiting(sk)).toBe(0)
    feed(spoilt(69))
    expect(reasons).toEqual([])
    expect(waiting(sk)).toBe(1)
    expect(t.recv(sk)).toBe(-11)
    expect(reasons).toEqual(['udp_recvmsg: UDP_CSUM'])
    t.close(sk)
  })

  it('tells nobody when a broadcast finds no socket', () => {
    const { t, sk, feed, reasons } = machine()
    const frame = udpFrame(30, { dport: 7001 })
    const view = new DataView(frame.buffer)
    view.setUint8(33, 255)
    view.setUint16(24, 0)
    let sum = 0
    for (let i = 0; i < 20; i += 2) sum += view.getUint16(14 + i)
    view.setUint16(24, ~((sum & 0xffff) + (sum >> 16)) & 0xffff)
    feed(frame)
    expect(reasons).toEqual(['__udp4_lib_mcast_deliver: NOT_SPECIFIED'])
    expect(t.counter(mibIndex('Udp.IgnoredMulti'))).toBe(1)
    expect(t.counter(mibIndex('Udp.NoPorts'))).toBe(0)
    t.close(sk)
  })
})
