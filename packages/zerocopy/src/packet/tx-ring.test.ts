import { ERRNO, Prng } from '@netmem/base'
import { type UserBuffer, userAddr } from '@netmem/memory'
import { nrFrags } from '@netmem/skbuff'
import { SOCK_DGRAM, SOCK_RAW, type Sock } from '@netmem/sockmem'
import { devClose, devOpen } from '@netmem/virtual-nic'
import { describe, expect, it } from 'vitest'
import {
  PACKET_LOSS,
  PACKET_QDISC_BYPASS,
  PACKET_TX_HAS_OFF,
  PACKET_TX_RING,
  PACKET_VNET_HDR,
  TP_STATUS_AVAILABLE,
  TP_STATUS_SEND_REQUEST,
  TP_STATUS_SENDING,
  TP_STATUS_WRONG_FORMAT,
  TPACKET_V1,
  TPACKET_V2,
  TPACKET_V3,
} from './constants.js'
import { failEveryAllocation, TestPackets } from './test-packets.js'

const FRAME = 2048
const FRAMES = 8

class Sender {
  readonly sk: Sock
  readonly area: UserBuffer

  constructor(
    readonly t: TestPackets,
    readonly version: number,
    options: readonly [number, number][] = [],
    type = SOCK_RAW,
  ) {
    this.sk = t.socket(type, 0)
    for (const [opt, value] of options) expect(t.set(this.sk, opt, value)).toBe(0)
    expect(t.ring(this.sk, version, { blockSize: 4096, blockNr: 4, frameSize: FRAME }, true)).toBe(0)
    this.area = t.map(this.sk, 4 * 4096)
  }

  word(i: number, offset: number): number {
    return userAddr(this.area, i * FRAME + offset) >>> 2
  }

  status(i: number): number {
    return this.t.net.mem.i32[this.word(i, this.version === TPACKET_V3 ? 20 : 0)]!
  }

  put(i: number, len: number, status = TP_STATUS_SEND_REQUEST): void {
    const { i32, u8 } = this.t.net.mem
    const header = this.version === TPACKET_V3 ? 48 : 32
    const at = userAddr(this.area, i * FRAME + header) >>> 0
    for (let n = 0; n < Math.min(len, FRAME - header); n++) u8[at + n] = n < 12 ? 2 : 0x88 + (n & 1)
    if (this.version === TPACKET_V3) i32[this.word(i, 0)] = 0
    i32[this.word(i, this.version === TPACKET_V3 ? 16 : this.version === TPACKET_V1 ? 8 : 4)] = len
    i32[this.word(i, this.version === TPACKET_V3 ? 20 : 0)] = status
    if (this.version === TPACKET_V1) i32[this.word(i, 4)] = 0
  }
}

describe('a transmit ring', () => {
  for (const version of [TPACKET_V1, TPACKET_V2, TPACKET_V3])
    it(`of V${version + 1} sends from the program's own pages and gives the frame back when the packet is gone`, () => {
      const t = new TestPackets()
      const s = new Sender(t, version)
      t.completes = false
      let copied = 0
      t.net.trace.copy = (_cpu, _site, bytes) => {
        copied += bytes
      }
      s.put(0, 1000)
      s.put(1, 60)
      expect(t.send(s.sk, 0)).toBe(1060)
      expect([s.status(0), s.status(1)]).toEqual([TP_STATUS_SENDING, TP_STATUS_SENDING])
      expect(t.sent.map((skb) => [skb.len, nrFrags(skb)])).toEqual([
        [1000, 1],
        [60, 1],
      ])
      expect(copied).toBe(0)
      expect(t.po(s.sk).sk.wmemAlloc - 1).toBe(t.sent.reduce((sum, skb) => sum + skb.truesize, 0))
      expect(t.setWords(s.sk, PACKET_TX_RING, [0, 0, 0, 0, 0, 0, 0])).toBe(-ERRNO.EBUSY)
      t.audit()
      t.complete()
      expect([s.status(0), s.status(1)]).toEqual([TP_STATUS_AVAILABLE, TP_STATUS_AVAILABLE])
      expect(t.po(s.sk).sk.wmemAlloc).toBe(1)
      t.close(s.sk)
      t.end()
    })

  it('keeps the socket until its last packet has left', () => {
    const t = new TestPackets()
    const s = new Sender(t, TPACKET_V2)
    t.completes = false
    s.put(0, 500)
    expect(t.send(s.sk, 0)).toBe(500)
    t.close(s.sk)
    expect(t.packet.proto.sockets).toBe(1)
    t.end()
  })

  it('stops at a bad frame, or with PACKET_LOSS goes past it', () => {
    for (const loss of [0, 1]) {
      const t = new TestPackets()
      const s = new Sender(t, TPACKET_V2, [[PACKET_LOSS, loss]])
      s.put(0, 100)
      s.put(1, 13)
      s.put(2, 100)
      expect(t.send(s.sk, 0)).toBe(loss === 1 ? 200 : -ERRNO.EINVAL)
      expect([0, 1, 2].map((i) => s.status(i))).toEqual(
        loss === 1 ? [0, 0, 0] : [0, TP_STATUS_WRONG_FORMAT, TP_STATUS_SEND_REQUEST],
      )
      t.close(s.sk)
      t.end()
    }
  })

  it('takes the offset that the program gives, within the frame', () => {
    const t = new TestPackets()
    const s = new Sender(t, TPACKET_V2, [[PACKET_TX_HAS_OFF, 1]])
    const { u16 } = t.net.mem
    const mac = (i: number): number => userAddr(s.area, i * FRAME + 12) >>> 1
    s.put(0, 100)
    u16[mac(0)] = 200
    expect(t.send(s.sk, 0)).toBe(100)
    for (const off of [31, FRAME - 99, 65535]) {
      s.put(1, 100)
      u16[mac(1)] = off
      expect(t.send(s.sk, 0)).toBe(-ERRNO.EINVAL)
      expect(s.status(1)).toBe(TP_STATUS_WRONG_FORMAT)
    }
    t.close(s.sk)
    t.end()
  })

  it('answers for the device: none, down, and full', () => {
    const t = new TestPackets()
    const s = new Sender(t, TPACKET_V2, [[PACKET_QDISC_BYPASS, 1]])
    s.put(0, 100)
    devClose(t.dev, t.cpu)
    expect(t.send(s.sk, 0)).toBe(-ERRNO.ENETDOWN)
    devOpen(t.dev, t.cpu)
    t.dev.carrier = false
    expect(t.send(s.sk, 0)).toBe(-ERRNO.ENOBUFS)
    expect(s.status(0)).toBe(TP_STATUS_SEND_REQUEST)
    t.dev.carrier = true
    expect(t.send(s.sk, 0)).toBe(100)
    t.close(s.sk)
    t.end()
  })

  for (const version of [TPACKET_V1, TPACKET_V2, TPACKET_V3])
    it(`of V${version + 1} survives whatever words the program writes into it`, () => {
      const random = new Prng(11 + version)
      for (const options of [[], [[PACKET_TX_HAS_OFF, 1]], [[PACKET_LOSS, 1]], [[PACKET_VNET_HDR, 1]]] as [
        number,
        number,
      ][][]) {
        const t = new TestPackets()
        const s = new Sender(t, version, options)
        for (let n = 0; n < 150; n++) {
          for (let i = 0; i < FRAMES; i++) {
            s.put(i, random.below(3000))
            for (let k = random.below(4); k > 0; k--)
              t.net.mem.i32[s.word(i, 4 * random.below(20))] = [random.next(), random.below(3000), 0, -1][
                random.below(4)
              ]!
            if (random.below(2) === 0)
              t.net.mem.i32[s.word(i, version === TPACKET_V3 ? 20 : 0)] = TP_STATUS_SEND_REQUEST
          }
          const rc = t.send(s.sk, 0)
          if (!Number.isInteger(rc)) throw new Error(`send: ${rc}`)
        }
        t.audit()
        t.close(s.sk)
        t.end()
      }
    })

  it('gives everything back whichever allocation fails', () => {
    const tries = failEveryAllocation(
      () => new TestPackets(),
      (t) => {
        let sk: Sock
        try {
          sk = t.socket(SOCK_DGRAM, 0x88b5)
        } catch {
          return
        }
        if (t.ring(sk, TPACKET_V2, { blockSize: 8192, blockNr: 2, frameSize: FRAME }, true) === 0) {
          const area = t.map(sk, 2 * 8192)
          for (let i = 0; i < 4; i++) {
            t.net.mem.i32[userAddr(area, i * FRAME + 4) >>> 2] = 900
            t.net.mem.i32[userAddr(area, i * FRAME) >>> 2] = TP_STATUS_SEND_REQUEST
          }
          t.send(sk, 0)
          t.audit()
        }
        t.close(sk)
      },
    )
    expect(tries).toBeGreaterThan(5)
  })
})

describe('sending one packet', () => {
  it('copies the bytes into a buffer that is charged to the socket', () => {
    const t = new TestPackets()
    const sk = t.socket(SOCK_RAW, 0)
    t.completes = false
    expect(t.send(sk, 1000)).toBe(1000)
    expect(sk.wmemAlloc - 1).toBe(t.sent[0]!.truesize)
    expect(t.send(sk, 1515)).toBe(-ERRNO.EMSGSIZE)
    expect(t.send(sk, 13)).toBe(-ERRNO.EINVAL)
    t.audit()
    t.complete()
    expect(sk.wmemAlloc).toBe(1)
    t.close(sk)
    t.end()
  })

  it('gives everything back whichever allocation fails', () => {
    failEveryAllocation(
      () => new TestPackets(),
      (t) => {
        let sk: Sock
        try {
          sk = t.socket(SOCK_RAW, 0)
        } catch {
          return
        }
        t.dev.mtu = 60000
        for (const bytes of [60, 3000, 50_000]) t.send(sk, bytes)
        t.close(sk)
      },
    )
  })
})
