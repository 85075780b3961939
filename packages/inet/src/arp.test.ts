import { devStatistics, ETH_P_802_2, ETH_P_8021Q, ETH_P_ARP, ETH_P_IPV6 } from '@netmem/virtual-nic'
import { ppCard } from '@netmem/virtual-nic/testing'
import { describe, expect, it } from 'vitest'
import { testInet } from './test-machine.js'

/** Feeds one frame of 60 bytes and says how it ended. */
function end(type: number, fill: (frame: Uint8Array) => void = () => {}, bytes = 60, ipv6Off = false): string {
  const t = testInet()
  const { dev, nic } = ppCard(t.net, {})
  let words = 'nothing'
  t.net.trace.kfreeSkb = (_cpu, _skb, site, _protocol, reason) => {
    words = `${site}: ${reason}`
  }
  t.net.trace.consumeSkb = (_cpu, _skb, site) => {
    words = `${site}: consumed`
  }
  t.inet.netOf(t.socks.initNet).disableIpv6[0] = ipv6Off ? 1 : 0
  const frame = new Uint8Array(bytes)
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, type >> 8, type & 255])
  fill(frame)
  nic.hw.receive(frame, 0, frame.length)
  // A packet that a protocol took is not the device's loss.
  expect(devStatistics(dev).rx_dropped).toBe(0)
  return words
}

describe('protocols beside IP', () => {
  it('consumes ARP that is right or for others, and drops what is none', () => {
    const arp = (f: Uint8Array) => f.set([0, 1, 8, 0, 6, 4], 14)
    expect(end(ETH_P_ARP, arp)).toBe('arp_process: consumed')
    expect(end(ETH_P_ARP, (f) => f.set([2, 0, 0, 0, 0, 7]))).toBe('arp_rcv: consumed')
    expect(end(ETH_P_ARP)).toBe('arp_rcv: NOT_SPECIFIED')
    expect(end(ETH_P_ARP, arp, 20)).toBe('arp_rcv: PKT_TOO_SMALL')
  })

  it('gives frames with a length instead of a type to 802.2, also behind a tag of VLAN 0', () => {
    expect(end(ETH_P_802_2)).toBe('llc_rcv: NOT_SPECIFIED')
    expect(end(46)).toBe('llc_rcv: NOT_SPECIFIED')
    expect(end(ETH_P_8021Q)).toBe('llc_rcv: NOT_SPECIFIED')
  })

  it('drops all of IPv6 where that is switched off', () => {
    expect(end(ETH_P_IPV6, () => {}, 60, true)).toBe('ip6_rcv_core: IPV6DISABLED')
  })
})
