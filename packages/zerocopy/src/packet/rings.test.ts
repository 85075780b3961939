import { ERRNO, Prng } from '@netmem/base'
import { failEvery, userAddr, userRead } from '@netmem/memory'
import { SOCK_DGRAM, SOCK_RAW } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import {
  PACKET_COPY_THRESH,
  PACKET_HDRLEN,
  PACKET_RESERVE,
  PACKET_RX_RING,
  PACKET_VERSION,
  PACKET_VNET_HDR,
  TP_STATUS_COPY,
  TP_STATUS_LOSING,
  TP_STATUS_USER,
  TPACKET_V1,
  TPACKET_V2,
  TPACKET_V3,
} from './constants.js'
import { failEveryAllocation, TestPackets } from './test-packets.js'

const frame = (bytes: number, seed = 0): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, i) => (i * 3 + seed) & 127)

describe('a ring of equal frames', () => {
  for (const version of [TPACKET_V1, TPACKET_V2])
    for (const seed of [1, 2, 3]) {
      it(`of V${version + 1} is a list of slots that kernel and program take in turn (seed ${seed})`, () => {
        const random = new Prng(seed * 10 + version)
        const t = new TestPackets()
        const cooked = random.below(2) === 0
        const sk = t.socket(cooked ? SOCK_DGRAM : SOCK_RAW)
        const frameSize = 16 * (8 + random.below(90))
        const blockSize = 4096 * (1 + random.below(2))
        const blockNr = 1 + random.below(4)
        const copies = random.below(2)
        expect(t.set(sk, PACKET_COPY_THRESH, copies)).toBe(0)
        expect(t.ring(sk, version, { blockSize, blockNr, frameSize })).toBe(0)
        const area = t.map(sk, blockSize * blockNr)
        const per = Math.floor(blockSize / frameSize)
        const count = per * blockNr
        const slot = (i: number): number => Math.floor(i / per) * blockSize + (i % per) * frameSize
        const status = (i: number): number => t.net.mem.i32[userAddr(area, slot(i)) >>> 2]!
        const slots = new Int32Array(count)
        const mac = cooked ? 80 : 66
        let head = 0
        let packets = 0
        let drops = 0
        let queued = 0
        for (let step = 0; step < 500; step++) {
          if (random.below(3) > 0) {
            const bytes = 15 + random.below(1500)
            const len = cooked ? bytes - 14 : bytes
            const ahead = (head + (count >> 2)) % count
            if (slots[head] !== 0) drops += 1
            else {
              packets += 1
              let expected = TP_STATUS_USER | (drops > 0 ? TP_STATUS_LOSING : 0)
              if (mac + len > frameSize && copies === 1 && t.po(sk).sk.rmemAlloc < t.po(sk).sk.rcvbuf) {
                expected |= TP_STATUS_COPY
                queued += 1
              }
              slots[head] = expected
              head = (head + 1) % count
            }
            expect(ahead).toBeLessThan(count)
            t.receive(frame(bytes, step))
          } else {
            const i = random.below(count)
            t.net.mem.i32[userAddr(area, slot(i)) >>> 2] = 0
            slots[i] = 0
          }
          for (let i = 0; i < count; i++)
            if (status(i) !== slots[i])
              throw new Error(`seed ${seed}, step ${step}: slot ${i} is ${status(i)}, not ${slots[i]}`)
        }
        t.audit()
        expect(t.stats(sk)).toMatchObject({ packets: packets + drops, drops })
        for (let n = 0; n < queued; n++) expect(t.recv(sk)).toBeGreaterThan(0)
        expect(t.recv(sk)).toBe(-ERRNO.EAGAIN)
        t.close(sk)
        t.end()
      })
    }

  it('keeps the bytes of each packet behind its header', () => {
    const t = new TestPackets()
    const sk = t.socket()
    expect(t.ring(sk, TPACKET_V2, { blockSize: 4096, blockNr: 1, frameSize: 1024 })).toBe(0)
    const area = t.map(sk, 4096)
    t.receive(frame(500))
    const at = userAddr(area, 66) >>> 0
    expect(t.net.mem.u8.slice(at, at + 500)).toEqual(frame(500))
    t.close(sk)
    t.end()
  })
})

describe('a ring', () => {
  it('is refused with the errno of the first rule that it breaks', () => {
    const t = new TestPackets()
    const sk = t.socket()
    const v2 = (blockSize: number, blockNr: number, frameSize: number, frameNr: number): number =>
      t.ring(sk, TPACKET_V2, { blockSize, blockNr, frameSize, frameNr })
    expect(v2(0, 1, 256, 16)).toBe(-ERRNO.EINVAL)
    expect(v2(4097, 1, 256, 16)).toBe(-ERRNO.EINVAL)
    expect(v2(4096, 1, 48, 85)).toBe(-ERRNO.EINVAL)
    expect(v2(4096, 1, 72, 56)).toBe(-ERRNO.EINVAL)
    expect(v2(4096, 1, 8192, 0)).toBe(-ERRNO.EINVAL)
    expect(v2(4096, 2, 256, 16)).toBe(-ERRNO.EINVAL)
    expect(v2(4096, 0, 256, 16)).toBe(-ERRNO.EINVAL)
    expect(v2(4096, 0x80000000, 4096, 0x80000000)).toBe(-ERRNO.ENOMEM)
    expect(v2(4096, 2, 256, 32)).toBe(0)
    expect(v2(4096, 2, 256, 32)).toBe(-ERRNO.EBUSY)
    expect(t.set(sk, PACKET_RESERVE, 10)).toBe(-ERRNO.EBUSY)
    expect(t.set(sk, PACKET_VNET_HDR, 1)).toBe(-ERRNO.EBUSY)
    expect(t.set(sk, PACKET_VERSION, TPACKET_V1)).toBe(-ERRNO.EBUSY)
    expect(t.get(sk, PACKET_HDRLEN, 4, TPACKET_V3)).toBe(0)
    expect(t.val.int).toBe(48)
    t.map(sk, 8192)
    expect(t.setWords(sk, PACKET_RX_RING, [0, 0, 0, 0])).toBe(-ERRNO.EBUSY)
    t.close(sk)
    t.end()
  })

  it('stays with who maps it when the socket has gone', () => {
    const t = new TestPackets()
    const sk = t.socket()
    expect(t.ring(sk, TPACKET_V2, { blockSize: 8192, blockNr: 3, frameSize: 2048 })).toBe(0)
    const area = t.map(sk, 3 * 8192)
    t.audit()
    const { refcount, head } = t.net.mem.pages
    expect([...area.pfns].map((pfn) => refcount[head[pfn]!])).toEqual(Array(6).fill(3))
    t.close(sk)
    t.end()
  })

  it('gives everything back whichever allocation fails', () => {
    const tries = failEveryAllocation(
      () => new TestPackets(),
      (t) => {
        let sk: ReturnType<TestPackets['socket']>
        try {
          sk = t.socket()
        } catch {
          return
        }
        for (const version of [TPACKET_V2, TPACKET_V3]) {
          const request = { blockSize: 16384, blockNr: 2, frameSize: 512, retireTov: 5 }
          const err = t.ring(sk, version, request)
          if (err !== 0) expect(err).toBe(-ERRNO.ENOMEM)
          else {
            for (let n = 0; n < 5; n++) t.receive(frame(400 + 300 * n))
            expect(t.setWords(sk, PACKET_RX_RING, [0, 0, 0, 0, 0, 0, 0])).toBe(0)
          }
          t.audit()
        }
        t.set(sk, PACKET_VNET_HDR, 1)
        for (let n = 0; n < 3; n++) t.receive(frame(100))
        t.close(sk)
      },
    )
    expect(tries).toBeGreaterThan(20)
  })

  it('is put together from single pages when there are no neighbours, and filled all the same', () => {
    for (const version of [TPACKET_V2, TPACKET_V3]) {
      const t = new TestPackets()
      const sk = t.socket()
      t.net.mem.fault = failEvery(1).byKind('page').bySize(32768)
      const blockSize = 32768
      expect(t.ring(sk, version, { blockSize, blockNr: 2, frameSize: 3008, retireTov: 5 })).toBe(0)
      t.net.mem.fault = null
      expect(t.po(sk).rxRing.vec!.scattered).toBe(true)
      const area = t.map(sk, 2 * blockSize)
      for (let n = 0; n < 8; n++) t.receive(frame(2900, n))
      let at = version === TPACKET_V3 ? 48 + 82 : 66
      for (let n = 0; n < 8; n++) {
        expect(userRead(t.net.mem, area, at, 2900), `packet ${n}`).toEqual(frame(2900, n))
        at += version === TPACKET_V3 ? Math.ceil((82 + 2900) / 8) * 8 : 3008
      }
      t.audit()
      t.close(sk)
      t.end()
    }
  })
})
