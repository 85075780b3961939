import { ERRNO } from '@netmem/base'
import { SOCK_DGRAM, type Sock } from '@netmem/sockmem'
import { devClose, devOpen, IFF_PROMISC } from '@netmem/virtual-nic'
import { udpFrame } from '@netmem/virtual-nic/testing'
import { describe, expect, it } from 'vitest'
import {
  PACKET_ADD_MEMBERSHIP,
  PACKET_DROP_MEMBERSHIP,
  PACKET_FANOUT,
  PACKET_FANOUT_CBPF,
  PACKET_FANOUT_CPU,
  PACKET_FANOUT_DATA,
  PACKET_FANOUT_FLAG_ROLLOVER,
  PACKET_FANOUT_FLAG_UNIQUEID,
  PACKET_FANOUT_HASH,
  PACKET_FANOUT_LB,
  PACKET_FANOUT_QM,
  PACKET_FANOUT_RND,
  PACKET_FANOUT_ROLLOVER,
  PACKET_MR_PROMISC,
  PACKET_ROLLOVER_STATS,
  PACKET_VNET_HDR,
  PACKET_VNET_HDR_SZ,
  SOL_PACKET,
  TPACKET_V2,
} from './constants.js'
import { TestPackets } from './test-packets.js'

const join = (t: TestPackets, sk: Sock, id: number, type: number, max?: number): number =>
  max === undefined
    ? t.set(sk, PACKET_FANOUT, id | (type << 16))
    : t.setWords(sk, PACKET_FANOUT, [id | (type << 16), max])

/** @returns how many packets each member has got. */
const shares = (t: TestPackets, members: readonly Sock[]): number[] => members.map((sk) => t.stats(sk).packets)

function group(t: TestPackets, type: number, size: number): Sock[] {
  return Array.from({ length: size }, () => {
    const sk = t.socket()
    expect(join(t, sk, 1, type)).toBe(0)
    return sk
  })
}

function finish(t: TestPackets, members: readonly Sock[]): void {
  t.audit()
  for (const sk of members) {
    t.close(sk)
    t.audit()
  }
  t.end()
}

describe('a fanout group', () => {
  it('gives each packet to one member: in turn, by CPU, by queue, at random', () => {
    for (const [type, expected] of [
      [PACKET_FANOUT_LB, [10, 10, 10]],
      [PACKET_FANOUT_CPU, [30, 0, 0]],
      [PACKET_FANOUT_QM, [30, 0, 0]],
    ] as const) {
      const t = new TestPackets()
      const members = group(t, type, 3)
      for (let n = 0; n < 30; n++) t.receive(new Uint8Array(60))
      expect(shares(t, members)).toEqual(expected)
      finish(t, members)
    }
    const t = new TestPackets()
    const members = group(t, PACKET_FANOUT_RND, 3)
    for (let n = 0; n < 60; n++) t.receive(new Uint8Array(60))
    const got = shares(t, members)
    expect(got.reduce((sum, n) => sum + n, 0)).toBe(60)
    expect(Math.min(...got)).toBeGreaterThan(5)
    finish(t, members)
  })

  it('keeps a flow together when it hashes', () => {
    const t = new TestPackets()
    const members = group(t, PACKET_FANOUT_HASH, 4)
    const owner = new Map<number, number>()
    for (let n = 0; n < 80; n++) {
      const sport = 1000 + (n % 20)
      t.receive(udpFrame(10, { sport }))
      const got = shares(t, members).indexOf(1)
      if (owner.has(sport)) expect(got).toBe(owner.get(sport))
      owner.set(sport, got)
    }
    expect(new Set(owner.values()).size).toBeGreaterThan(1)
    finish(t, members)
  })

  it('asks a program, and without one takes the first', () => {
    const t = new TestPackets()
    const members = group(t, PACKET_FANOUT_CBPF, 3)
    t.receive(new Uint8Array(60))
    expect(shares(t, members)).toEqual([1, 0, 0])
    // The byte behind the link header, which is where the data of a tap begins.
    t.val.program = Int32Array.from([0x30, 0, 0, 0, 0x16, 0, 0, 0])
    t.val.len = 16
    expect(members[0]!.ops.setsockopt(t.cpu, t.task, members[0]!, SOL_PACKET, PACKET_FANOUT_DATA, t.val)).toBe(0)
    for (const byte of [0, 1, 2, 3, 5]) t.receive(new Uint8Array(60).fill(byte, 14))
    expect(shares(t, members)).toEqual([2, 1, 2])
    t.val.program = Int32Array.from([0x0e, 0, 0, 0])
    expect(members[0]!.ops.setsockopt(t.cpu, t.task, members[0]!, SOL_PACKET, PACKET_FANOUT_DATA, t.val)).toBe(
      -ERRNO.EINVAL,
    )
    finish(t, members)
  })

  it('rolls over to the next member that has room', () => {
    const t = new TestPackets()
    const members = [0, 1].map(() => {
      const sk = t.socket()
      expect(t.ring(sk, TPACKET_V2, { blockSize: 4096, blockNr: 1, frameSize: 512 })).toBe(0)
      expect(join(t, sk, 1, PACKET_FANOUT_ROLLOVER)).toBe(0)
      return sk
    })
    for (let n = 0; n < 20; n++) t.receive(new Uint8Array(60))
    const [first, second] = members.map((sk) => t.stats(sk))
    // Six frames of eight are taken before the quarter ahead is full; then the other's; then the first must take the rest.
    expect([first!.packets - first!.drops, second!.packets - second!.drops]).toEqual([8, 6])
    expect(t.get(members[0]!, PACKET_ROLLOVER_STATS, 24)).toBe(0)
    expect(t.val.words[0]).toBe(12)
    finish(t, members)
  })

  it('is joined by the rules of the kernel', () => {
    const t = new TestPackets()
    const [a, b] = [t.socket(), t.socket()]
    expect(join(t, a!, 1, 8)).toBe(-ERRNO.EINVAL)
    expect(join(t, a!, 1, PACKET_FANOUT_ROLLOVER | PACKET_FANOUT_FLAG_ROLLOVER)).toBe(-ERRNO.EINVAL)
    expect(join(t, a!, 7, PACKET_FANOUT_LB)).toBe(0)
    expect(join(t, a!, 7, PACKET_FANOUT_LB)).toBe(-ERRNO.EALREADY)
    expect(t.bind(a!, 3, null)).toBe(-ERRNO.EINVAL)
    expect(join(t, b!, 7, PACKET_FANOUT_HASH)).toBe(-ERRNO.EINVAL)
    expect(join(t, b!, 7, PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_ROLLOVER)).toBe(-ERRNO.EINVAL)
    expect(join(t, b!, 7, PACKET_FANOUT_LB, 5)).toBe(-ERRNO.EINVAL)
    expect(join(t, b!, 7, PACKET_FANOUT_LB, 256)).toBe(0)
    const [unique, cooked, last] = [t.socket(), t.socket(SOCK_DGRAM), t.socket()]
    expect(join(t, unique!, 3, PACKET_FANOUT_FLAG_UNIQUEID)).toBe(-ERRNO.EINVAL)
    expect(join(t, unique!, 0, PACKET_FANOUT_FLAG_UNIQUEID)).toBe(0)
    expect(join(t, cooked!, 8, PACKET_FANOUT_LB, 1)).toBe(0)
    expect(join(t, last!, 8, PACKET_FANOUT_LB, 1)).toBe(-ERRNO.ENOSPC)
    expect(join(t, last!, 9, PACKET_FANOUT_LB, 65537)).toBe(-ERRNO.EINVAL)
    finish(t, [a!, b!, unique!, cooked!, last!])
  })
})

describe('a packet socket', () => {
  it('is deaf while its device is down, and told so', () => {
    const t = new TestPackets()
    const sk = t.socket()
    devClose(t.dev, t.cpu)
    expect(t.recv(sk)).toBe(-ERRNO.ENETDOWN)
    expect(t.recv(sk)).toBe(-ERRNO.EAGAIN)
    devOpen(t.dev, t.cpu)
    t.receive(new Uint8Array(60))
    expect(t.recv(sk)).toBe(60)
    finish(t, [sk])
  })

  it('sets its device promiscuous as long as it is a member', () => {
    const t = new TestPackets()
    const [a, b] = [t.socket(), t.socket()]
    const mreq = [t.dev.id, PACKET_MR_PROMISC, 0, 0]
    for (const sk of [a!, b!, b!]) expect(t.setWords(sk, PACKET_ADD_MEMBERSHIP, mreq)).toBe(0)
    expect(t.setWords(a!, PACKET_ADD_MEMBERSHIP, [99, PACKET_MR_PROMISC, 0, 0])).toBe(-ERRNO.ENODEV)
    expect(t.dev.promiscuity).toBe(2)
    expect(t.setWords(b!, PACKET_DROP_MEMBERSHIP, mreq)).toBe(0)
    expect(t.dev.promiscuity).toBe(2)
    t.close(a!)
    expect(t.dev.flags & IFF_PROMISC).toBe(IFF_PROMISC)
    t.close(b!)
    expect(t.dev.flags & IFF_PROMISC).toBe(0)
    t.end()
  })

  it('carries a virtio header of the size that was asked for', () => {
    const t = new TestPackets()
    const sk = t.socket()
    expect(t.set(sk, PACKET_VNET_HDR_SZ, 11)).toBe(-ERRNO.EINVAL)
    for (const [opt, value, bytes] of [
      [PACKET_VNET_HDR, 1, 10],
      [PACKET_VNET_HDR_SZ, 12, 12],
    ] as const) {
      expect(t.set(sk, opt, value)).toBe(0)
      t.receive(new Uint8Array(60))
      expect(t.recv(sk, 5)).toBe(-ERRNO.EINVAL)
      t.receive(new Uint8Array(60))
      expect(t.recv(sk)).toBe(60 + bytes)
    }
    finish(t, [sk])
  })

  it('takes of a packet what its filter keeps, and shows how long it was', () => {
    const t = new TestPackets()
    const sk = t.socket()
    expect(t.filter(sk, [6, 0, 0, 30])).toBe(0)
    t.receive(new Uint8Array(100))
    expect(t.recv(sk)).toBe(30)
    expect(t.filter(sk, [6, 0, 0, 0])).toBe(0)
    t.receive(new Uint8Array(100))
    expect(t.recv(sk)).toBe(-ERRNO.EAGAIN)
    expect(t.filter(sk, [0x0e, 0, 0, 0])).toBe(-ERRNO.EINVAL)
    finish(t, [sk])
  })
})
