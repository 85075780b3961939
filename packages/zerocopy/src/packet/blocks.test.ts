import { Prng } from '@netmem/base'
import { userAddr } from '@netmem/memory'
import { SOCK_DGRAM, SOCK_RAW } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { TpacketBlockReader } from './block-reader.js'
import { BD, blkPlusPriv, H3, TP_STATUS_BLK_TMO, TP_STATUS_LOSING, TP_STATUS_USER, TPACKET_V3 } from './constants.js'
import { TestPackets } from './test-packets.js'

const MS = 1e6

/** The ring as a list of lists: what a reader of the documentation would build. */
class NaiveBlocks {
  readonly blocks: { status: number; packets: number[]; used: number; seq: number; closed: boolean }[]
  active = 0
  frozen = false
  seq = 2
  packets = 0
  drops = 0
  freezes = 0

  constructor(
    readonly blockBytes: number,
    blockNr: number,
    readonly priv: number,
    readonly macoff: number,
  ) {
    this.blocks = Array.from({ length: blockNr }, () => ({
      status: 0,
      packets: [],
      used: 0,
      seq: 0,
      closed: false,
    }))
    this.open()
    this.blocks[0]!.seq = 1
  }

  private open(): void {
    const block = this.blocks[this.active]!
    block.packets = []
    block.closed = false
    block.used = blkPlusPriv(this.priv)
    block.seq = this.seq - 1
    this.seq += 1
    this.frozen = false
  }

  private close(flags: number): void {
    const block = this.blocks[this.active]!
    if (block.status !== 0) return
    block.closed = true
    block.status = TP_STATUS_USER | flags | (this.drops > 0 ? TP_STATUS_LOSING : 0)
    this.active = (this.active + 1) % this.blocks.length
  }

  private dispatch(): boolean {
    if ((this.blocks[this.active]!.status & TP_STATUS_USER) !== 0) {
      this.frozen = true
      this.freezes += 1
      return false
    }
    this.open()
    return true
  }

  receive(len: number): void {
    // An empty packet is nothing to a filter, and the filter that is not there lets through as much as there is.
    if (len === 0) return
    const ahead = (this.active + (this.blocks.length >> 2)) % this.blocks.length
    if (this.blocks[ahead]!.status !== 0 && this.blocks[this.active]!.status !== 0) {
      this.drops += 1
      return
    }
    const most = this.blockBytes - blkPlusPriv(this.priv)
    const snap = Math.max(0, Math.min(len, most - this.macoff))
    const bytes = Math.ceil((this.macoff + snap) / 8) * 8
    if (this.frozen) {
      if ((this.blocks[this.active]!.status & TP_STATUS_USER) !== 0) {
        this.drops += 1
        return
      }
      this.open()
    }
    if (this.blocks[this.active]!.used + bytes >= this.blockBytes) {
      this.close(0)
      if (!this.dispatch()) {
        this.drops += 1
        return
      }
    }
    const block = this.blocks[this.active]!
    block.packets.push(snap)
    block.used += bytes
    this.packets += 1
  }

  tick(): void {
    if (this.frozen) {
      if ((this.blocks[this.active]!.status & TP_STATUS_USER) === 0) this.open()
    } else if (this.blocks[this.active]!.packets.length > 0) {
      this.close(TP_STATUS_BLK_TMO)
      this.dispatch()
    }
  }
}

function compare(t: TestPackets, naive: NaiveBlocks, area: ReturnType<TestPackets['map']>, words: string): void {
  const { i32 } = t.net.mem
  const at = (offset: number): number => i32[userAddr(area, offset) >>> 2]!
  naive.blocks.forEach((block, i) => {
    const start = i * naive.blockBytes
    const where = `${words}, block ${i}`
    expect(at(start + BD.status), where).toBe(block.status)
    if (block.seq === 0) return
    expect(at(start + BD.seqNum), where).toBe(block.seq)
    expect(at(start + BD.numPkts), where).toBe(block.packets.length)
    expect(at(start + BD.blkLen), where).toBe(block.used)
    let q = start + at(start + BD.offsetToFirstPkt)
    for (const [n, snap] of block.packets.entries()) {
      expect(at(q + H3.snaplen), where).toBe(snap)
      const next = at(q + H3.nextOffset)
      const last = n === block.packets.length - 1
      expect(next === 0, where).toBe(last && block.closed)
      q += next
    }
  })
}

describe('the blocks of a V3 ring', () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it(`are filled, closed, frozen and thawed as a list of lists would be (seed ${seed})`, () => {
      const random = new Prng(seed)
      const t = new TestPackets()
      const cooked = random.below(2) === 0
      const sk = t.socket(cooked ? SOCK_DGRAM : SOCK_RAW)
      const blockSize = 4096 * (1 + random.below(3))
      const blockNr = 1 + random.below(7)
      const sizeofPriv = [0, 13, 100, 3000][random.below(4)]!
      expect(t.ring(sk, TPACKET_V3, { blockSize, blockNr, frameSize: 2048, retireTov: 5, sizeofPriv })).toBe(0)
      const area = t.map(sk, blockSize * blockNr)
      const naive = new NaiveBlocks(blockSize, blockNr, sizeofPriv, cooked ? 96 : 82)
      let ticks = 0
      for (let step = 0; step < 400; step++) {
        const what = random.below(10)
        if (what < 7) {
          const bytes = 14 + random.below([60, 1500, 9000][random.below(3)]!)
          t.receive(new Uint8Array(bytes).fill(step))
          naive.receive(cooked ? bytes - 14 : bytes)
        } else if (what < 9) {
          const block = random.below(blockNr)
          if (block === naive.active && !naive.frozen) continue
          t.net.mem.i32[(userAddr(area, block * blockSize) + BD.status) >>> 2] = 0
          naive.blocks[block]!.status = 0
        } else {
          ticks += 1
          t.pass(ticks * 5 * MS - t.net.clock.nowNs)
          naive.tick()
        }
        const po = t.po(sk)
        expect(
          [po.tpPackets, po.tpDrops, po.tpFreezeQCnt, po.rxRing.kbdq!.kactiveBlkNum],
          `seed ${seed}, step ${step}`,
        ).toEqual([naive.packets, naive.drops, naive.freezes, naive.active])
        compare(t, naive, area, `seed ${seed}, step ${step}`)
        if (step % 50 === 0) t.audit()
      }
      expect(t.stats(sk)).toEqual({
        packets: naive.packets + naive.drops,
        drops: naive.drops,
        freezes: naive.freezes,
      })
      t.close(sk)
      t.end()
    })
  }

  it('give the reader every byte of every packet, in order', () => {
    const t = new TestPackets()
    const sk = t.socket()
    const blockSize = 8192
    expect(t.ring(sk, TPACKET_V3, { blockSize, blockNr: 4, frameSize: 2048, retireTov: 5 })).toBe(0)
    const reader = new TpacketBlockReader(t.net.mem, t.map(sk, 4 * blockSize), blockSize, 4)
    let got = 0
    for (let n = 0; n < 300; n++) {
      const frame = Uint8Array.from({ length: 60 + n }, (_, i) => (i * 7 + n) & 255)
      t.receive(frame)
      while (reader.nextBlock()) {
        while (reader.nextPacket()) {
          expect(reader.len).toBe(60 + got)
          expect(reader.maclen).toBe(14)
          for (let i = 0; i < reader.snaplen; i++)
            if (t.net.mem.u8[reader.data + i] !== ((i * 7 + got) & 255)) throw new Error(`packet ${got}, byte ${i}`)
          got += 1
        }
        reader.releaseBlock()
      }
    }
    t.pass(20 * MS)
    while (reader.nextBlock()) {
      while (reader.nextPacket()) got += 1
      reader.releaseBlock()
    }
    expect(got).toBe(300)
    expect(t.stats(sk).drops).toBe(0)
    t.close(sk)
    t.end()
  })

  it('survive a status that the program has made up', () => {
    const t = new TestPackets()
    const sk = t.socket()
    expect(t.ring(sk, TPACKET_V3, { blockSize: 4096, blockNr: 2, frameSize: 2048, retireTov: 5 })).toBe(0)
    const area = t.map(sk, 8192)
    const random = new Prng(9)
    for (let n = 0; n < 500; n++) {
      t.receive(new Uint8Array(14 + random.below(3000)))
      const word = userAddr(area, random.below(2) * 4096) >>> 2
      t.net.mem.i32[word + random.below(12)] = random.next()
      if (n % 10 === 0) t.pass(5 * MS)
      t.audit()
    }
    t.close(sk)
    t.end()
  })

  it('are retired by a timer wheel on the older kernel, never early', () => {
    const t = new TestPackets('linux-6.1-x86_64')
    const sk = t.socket()
    expect(t.ring(sk, TPACKET_V3, { blockSize: 4096, blockNr: 2, frameSize: 2048, retireTov: 10 })).toBe(0)
    const area = t.map(sk, 8192)
    const status = (): number => t.net.mem.i32[(userAddr(area, 0) + BD.status) >>> 2]!
    t.receive(new Uint8Array(60))
    t.pass(10 * MS - 1)
    expect(status()).toBe(0)
    t.pass(6 * MS + 1)
    expect(status()).toBe(TP_STATUS_USER | TP_STATUS_BLK_TMO)
    t.close(sk)
    t.end()
  })
})
