/**
 * Random lives of skbs against a naive model: an array of bytes each. After every step all audits run and the
 * packet that was touched is compared byte by byte. Each run prints its seed when it fails.
 */
import { type Addr, type Cpu, NULL, Prng } from '@netmem/base'
import {
  allocPages,
  failProbability,
  IovIter,
  iovIterInit,
  userAlloc,
  userFree,
  userRead,
  userWrite,
} from '@netmem/memory'
import { expect, it } from 'vitest'
import {
  allocSkb,
  allocSkbFclone,
  CoalesceResult,
  consumeSkb,
  csumFold,
  kfreeSkb,
  kfreeSkbPartial,
  napiAllocSkb,
  napiConsumeSkb,
  netdevAllocSkb,
  nrFrags,
  pskbCopy,
  pskbExpandHead,
  pskbPull,
  pskbPullTail,
  pskbTrim,
  type SkBuff,
  skbAddRxFrag,
  skbAttemptDeferFree,
  skbChecksum,
  skbClone,
  skbCloned,
  skbCondense,
  skbCopy,
  skbCopyBits,
  skbCopyDatagramFromIter,
  skbCopyDatagramIter,
  skbDeferFreeFlush,
  skbGet,
  skbHeadroom,
  skbPush,
  skbPut,
  skbReserve,
  skbSplit,
  skbStoreBits,
  skbTailroom,
  skbTryCoalesce,
  skbUnclone,
} from './index.js'
import { readSkb, type SkbTestMachine, skbTestMachine } from './testing.js'

interface Live {
  readonly skb: SkBuff
  bytes: number[]
  holders: number
}

class Play {
  readonly live: Live[] = []
  readonly out = new CoalesceResult()
  readonly scratch: Addr
  touched: Live | null = null

  constructor(
    readonly m: SkbTestMachine,
    readonly rng: Prng,
  ) {
    this.scratch = (allocPages(m.mem, m.cpu, m.mem.gfp.GFP_ATOMIC, 1, -1, 'scratch') << 12) as Addr
  }

  pick(): Live | null {
    return this.live.length === 0 ? null : this.live[this.rng.below(this.live.length)]!
  }

  cpu(): Cpu {
    return this.m.cpus[this.rng.below(2)]!
  }

  add(skb: SkBuff | null, bytes: number[]): void {
    if (skb === null) return
    this.touched = { skb, bytes, holders: 1 }
    this.live.push(this.touched)
  }

  randomBytes(count: number): number[] {
    return Array.from({ length: count }, () => this.rng.below(256))
  }

  write(at: Addr, bytes: number[]): void {
    this.m.mem.u8.set(bytes, at >>> 0)
  }

  alloc(): void {
    const { env, mem } = this.m
    const gfp = mem.gfp.GFP_ATOMIC
    const cpu = this.cpu()
    const len = this.rng.below([100, 500, 1600, 5000][this.rng.below(4)]!)
    const kind = this.rng.below(4)
    const skb =
      kind === 0
        ? allocSkb(env, cpu, len, gfp)
        : kind === 1
          ? allocSkbFclone(env, cpu, len, gfp)
          : kind === 2
            ? netdevAllocSkb(env, cpu, 1, len)
            : napiAllocSkb(env, cpu, 1, len)
    if (skb !== null && this.rng.below(2) === 0) skbReserve(skb, Math.min(skbTailroom(skb), this.rng.below(40)))
    this.add(skb, [])
  }

  /** Changing the bytes of a clone changes the other's too; the model's packets each have their own. */
  own(one: Live): boolean {
    return one.holders === 1 && skbUnclone(this.m.cpu, one.skb, this.m.mem.gfp.GFP_ATOMIC) === 0
  }

  grow(one: Live): void {
    if (!this.own(one)) return
    const { skb } = one
    const room = skbTailroom(skb)
    if (room > 0 && this.rng.below(3) > 0) {
      const bytes = this.randomBytes(1 + this.rng.below(Math.min(room, 200)))
      this.write(skbPut(skb, bytes.length), bytes)
      one.bytes.push(...bytes)
    } else if (skbHeadroom(skb) > 0 && this.rng.below(2) === 0) {
      const bytes = this.randomBytes(1 + this.rng.below(skbHeadroom(skb)))
      this.write(skbPush(skb, bytes.length), bytes)
      one.bytes.unshift(...bytes)
    } else if (nrFrags(skb) < 17) {
      const { mem, cpu } = this.m
      const page = allocPages(mem, cpu, mem.gfp.GFP_ATOMIC, 0, -1, 'test')
      if (page === 0) return
      const off = this.rng.below(3000)
      const bytes = this.randomBytes(1 + this.rng.below(1000))
      this.write(((page << 12) + off) as Addr, bytes)
      skbAddRxFrag(skb, nrFrags(skb), page, off, bytes.length, 4096)
      one.bytes.push(...bytes)
    }
  }

  shrink(one: Live): void {
    if (one.holders > 1 || one.bytes.length === 0) return
    const count = this.rng.below(one.bytes.length + 1)
    const { cpu } = this.m
    if (this.rng.below(2) === 0) {
      if (pskbPull(cpu, one.skb, count) !== NULL) one.bytes.splice(0, count)
    } else if (pskbTrim(cpu, one.skb, count) === 0) one.bytes.length = Math.min(one.bytes.length, count)
  }

  copy(one: Live): void {
    const { cpu, mem } = this.m
    const gfp = mem.gfp.GFP_ATOMIC
    const how = this.rng.below(3)
    const make = how === 0 ? skbClone : how === 1 ? skbCopy : pskbCopy
    this.add(make(cpu, one.skb, gfp), [...one.bytes])
  }

  reshape(one: Live): void {
    if (one.holders > 1) return
    const { cpu, mem } = this.m
    const { skb } = one
    switch (this.rng.below(4)) {
      case 0:
        pskbExpandHead(cpu, skb, this.rng.below(100), this.rng.below(500), mem.gfp.GFP_ATOMIC)
        break
      case 1:
        if (skb.dataLen > 0) pskbPullTail(cpu, skb, 1 + this.rng.below(skb.dataLen))
        break
      case 2:
        skbCondense(cpu, skb)
        break
      default: {
        const rest = allocSkb(this.m.env, cpu, one.bytes.length, mem.gfp.GFP_ATOMIC)
        if (rest === null) return
        if (!this.own(one)) {
          kfreeSkb(cpu, rest, 'NOT_SPECIFIED', 'x')
          return
        }
        const cut = this.rng.below(one.bytes.length + 1)
        skbSplit(cpu, skb, rest, cut)
        this.add(rest, one.bytes.splice(cut))
        this.touched = one
      }
    }
  }

  join(one: Live): void {
    const other = this.pick()!
    if (other === one || one.holders > 1 || other.holders > 1 || other.skb.fclone !== 0) return
    if (!skbTryCoalesce(this.m.cpu, one.skb, other.skb, this.out)) return
    one.bytes.push(...other.bytes)
    kfreeSkbPartial(this.m.cpu, other.skb, this.out.fragstolen, 'x')
    this.live.splice(this.live.indexOf(other), 1)
  }

  read(one: Live): void {
    const { mem, cpu } = this.m
    const from = this.rng.below(one.bytes.length + 1)
    const count = this.rng.below(one.bytes.length - from + 1)
    if (count > 8000) return
    const want = one.bytes.slice(from, from + count)
    expect(skbCopyBits(one.skb, from, this.scratch, count)).toBe(0)
    expect([...mem.u8.subarray(this.scratch, this.scratch + count)]).toEqual(want)
    let sum = 0
    want.forEach((byte, i) => {
      sum += i % 2 === 0 ? byte : byte << 8
    })
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
    expect(csumFold(skbChecksum(one.skb, from, count, 0))).toBe(~sum & 0xffff)
    if (count === 0 || this.m.mem.fault !== null) return
    const user = userAlloc(mem, cpu, count)!
    const iter = new IovIter()
    iovIterInit(iter, user, 0, count)
    expect(skbCopyDatagramIter(cpu, one.skb, from, iter, count)).toBe(0)
    expect([...userRead(mem, user, 0, count)]).toEqual(want)
    if (this.own(one) && this.rng.below(2) === 0 && !skbCloned(one.skb)) {
      const fresh = this.randomBytes(count)
      // Pages may be shared with a copy of the header: bytes in them are not this packet's alone.
      const linear = one.skb.len - one.skb.dataLen
      if (from + count <= linear) {
        userWrite(mem, user, 0, Uint8Array.from(fresh))
        iovIterInit(iter, user, 0, count)
        if (this.rng.below(2) === 0) expect(skbCopyDatagramFromIter(cpu, one.skb, from, iter, count)).toBe(0)
        else {
          this.write(this.scratch, fresh)
          expect(skbStoreBits(one.skb, from, this.scratch, count)).toBe(0)
        }
        one.bytes.splice(from, count, ...fresh)
      }
    }
    userFree(mem, cpu, user)
  }

  free(one: Live): void {
    const cpu = this.cpu()
    const how = this.rng.below(5)
    if (how === 0 && one.holders < 3) {
      skbGet(one.skb)
      one.holders++
      return
    }
    if (one.holders === 1 && how === 1) skbAttemptDeferFree(cpu, one.skb, 'x')
    else if (how === 2) kfreeSkb(cpu, one.skb, 'NOT_SPECIFIED', 'x')
    else if (how === 3) napiConsumeSkb(cpu, one.skb, 64)
    else consumeSkb(cpu, one.skb, 'x')
    if (--one.holders > 0) return
    this.live.splice(this.live.indexOf(one), 1)
    this.touched = null
  }

  step(): void {
    this.touched = this.pick()
    const what = this.rng.below(this.live.length > 24 ? 16 : 12)
    const one = this.touched
    if (one === null || what < 2) this.alloc()
    else if (what < 5) this.grow(one)
    else if (what === 5) this.shrink(one)
    else if (what === 6) this.copy(one)
    else if (what === 7) this.reshape(one)
    else if (what === 8) this.join(one)
    else if (what === 9) this.read(one)
    else if (this.rng.below(8) === 0) skbDeferFreeFlush(this.cpu(), this.m.env)
    else this.free(one)
  }

  check(words: string): void {
    this.m.audit()
    for (const one of this.touched === null ? [] : [this.touched, this.pick() ?? this.touched]) {
      expect(one.skb.len, words).toBe(one.bytes.length)
      expect([...readSkb(one.skb)], words).toEqual(one.bytes)
    }
  }
}

for (const profile of ['linux-6.18-x86_64', 'linux-6.1-x86_64'])
  for (const faults of [0, 0.08])
    it(`skbs hold what a plain array of bytes holds, on ${profile} with ${faults * 100} % of allocations failing`, () => {
      for (const seed of [21, 22, 23]) {
        const m = skbTestMachine({ profile })
        const play = new Play(m, new Prng(seed))
        if (faults > 0) m.mem.fault = failProbability(new Prng(seed + 1000), faults)
        for (let step = 0; step < 350; step++) {
          const words = `seed ${seed} step ${step}`
          try {
            play.step()
            play.check(words)
          } catch (error) {
            throw new Error(`${words}: ${(error as Error).message}`, { cause: error })
          }
        }
        m.mem.fault = null
        for (const one of play.live) for (; one.holders > 0; one.holders--) consumeSkb(m.cpu, one.skb, 'x')
        for (const cpu of m.cpus) skbDeferFreeFlush(cpu, m.env)
        for (const page of [play.scratch >>> 12]) m.mem.tracker!.pageFree(page as never)
        m.finish()
      }
    })
