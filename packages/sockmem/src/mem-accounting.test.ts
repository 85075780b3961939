/** Pages between sockets and their protocol: who may take them, what is decided in which order, and that none is lost. */
import { Prng } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import {
  PressureFlag,
  Proto,
  ProtoMemory,
  protoMemoryAllocated,
  protoMemoryPressure,
  protoRegister,
  SK_MEM_RECV,
  SK_MEM_SEND,
  type Sock,
  skForcedMemSchedule,
  skMemCharge,
  skMemoryAllocated,
  skMemoryAllocatedAdd,
  skMemoryAllocatedSub,
  skMemReclaim,
  skMemReclaimFinal,
  skMemSchedule,
  skMemUncharge,
  skRmemSchedule,
  skStreamModerateSndbuf,
  skWmemSchedule,
  tcpEnterMemoryPressure,
} from './index.js'
import { auditSocks, type TestSockets, testSock, testSockets } from './testing.js'

const RESERVE = 256

/** Puts `pages` into the shared count, past the CPUs' reserves. */
function fill(t: TestSockets, sk: Sock, pages: number): void {
  sk.proto.memory!.pages = pages
  expect(skMemoryAllocated(sk)).toBe(pages)
  t.env.memPcpuRsv[0] = 1
}

/** As if the protocol had so many more sockets. */
function pretendSockets(t: TestSockets, sk: Sock, more: number): void {
  sk.proto.socketsAllocated!.add(t.cpu, more, 1)
}

/** Takes `pages` for receiving and gives them back at once. @returns whether they were granted. */
function tryTake(t: TestSockets, sk: Sock, pages: number, kind = SK_MEM_RECV): boolean {
  const before = sk.forwardAlloc
  const granted = skMemSchedule(t.cpu, sk, pages * 4096, kind)
  expect(sk.forwardAlloc - before).toBe(granted ? pages * 4096 : 0)
  return granted
}

describe('the CPU reserve', () => {
  it('holds up to 255 pages back from the shared count, in both directions, and then moves them all', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const memory = t.dgram.memory!
    skMemoryAllocatedAdd(t.cpu, sk, RESERVE - 1)
    expect([memory.pages, memory.perCpu[0]]).toEqual([0, 255])
    skMemoryAllocatedAdd(t.cpu, sk, 1)
    expect([memory.pages, memory.perCpu[0]]).toEqual([256, 0])
    skMemoryAllocatedSub(t.cpu, sk, RESERVE - 1)
    expect([memory.pages, memory.perCpu[0]]).toEqual([256, -255])
    skMemoryAllocatedSub(t.cpu, sk, 1)
    expect([memory.pages, memory.perCpu[0]]).toEqual([0, 0])
  })

  it('belongs to one CPU: pages taken on one and given back on another are apart until either is full', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    const [a, b] = t.cpus
    skMemoryAllocatedAdd(a!, sk, 200)
    skMemoryAllocatedSub(b!, sk, 200)
    expect([...t.dgram.memory!.perCpu]).toEqual([200, -200])
    expect(skMemoryAllocated(sk)).toBe(0)
    skMemoryAllocatedSub(b!, sk, 56)
    expect(t.dgram.memory!.pages).toBe(-256)
    expect(skMemoryAllocated(sk)).toBe(0)
    expect(protoMemoryAllocated(t.dgram)).toBe(0)
  })

  it('has the size that net.core.mem_pcpu_rsv says', () => {
    const t = testSockets()
    t.env.memPcpuRsv[0] = 10
    const sk = testSock(t, t.dgram)
    skMemoryAllocatedAdd(t.cpu, sk, 9)
    expect(t.dgram.memory!.pages).toBe(0)
    skMemoryAllocatedAdd(t.cpu, sk, 1)
    expect(t.dgram.memory!.pages).toBe(10)
  })
})

describe.each(['linux-6.18-x86_64', 'linux-6.1-x86_64'])('raising the allocated pages on %s', (profile) => {
  it('grants anything up to the first limit and leaves pressure there', () => {
    const t = testSockets({ profile, limits: [1000, 2000, 3000] })
    const sk = testSock(t, t.stream)
    tcpEnterMemoryPressure(sk)
    fill(t, sk, 995)
    expect(tryTake(t, sk, 5)).toBe(true)
    expect(protoMemoryPressure(t.stream)).toBe('no')
  })

  it('enters pressure above the second limit, and only there', () => {
    const t = testSockets({ profile, limits: [1000, 2000, 3000] })
    const sk = testSock(t, t.stream)
    fill(t, sk, 1995)
    expect(tryTake(t, sk, 5)).toBe(true)
    expect(protoMemoryPressure(t.stream)).toBe('no')
    expect(tryTake(t, sk, 1)).toBe(true)
    expect(protoMemoryPressure(t.stream)).toBe('yes')
  })

  it('refuses above the third limit, with the counts as before', () => {
    const t = testSockets({ profile, limits: [1000, 2000, 3000] })
    const sk = testSock(t, t.stream)
    fill(t, sk, 2999)
    sk.rmemAlloc = 8192
    const seen: unknown[] = []
    t.trace.sockExceedBufLimit = (_cpu, id, name, allocated, kind) => seen.push([id, name, allocated, kind])
    expect(tryTake(t, sk, 2)).toBe(false)
    expect(t.stream.memory!.pages).toBe(2999)
    expect(seen).toEqual(profile.includes('6.18') ? [] : [[sk.id, 'TESTSTREAM', 3001, SK_MEM_RECV]])
    expect(tryTake(t, sk, 1)).toBe(true)
  })

  it('grants below the third limit to whoever holds less than the minimum, and not above it', () => {
    const t = testSockets({ profile, limits: [10, 20, 3000] })
    const sk = testSock(t, t.stream)
    pretendSockets(t, sk, 1e6)
    tcpEnterMemoryPressure(sk)
    fill(t, sk, 2000)
    sk.rmemAlloc = 4095
    expect(tryTake(t, sk, 1)).toBe(true)
    sk.rmemAlloc = 4096
    expect(tryTake(t, sk, 1)).toBe(false)
    fill(t, sk, 3000)
    sk.rmemAlloc = 0
    expect(tryTake(t, sk, 1)).toBe(false)
  })

  it('grants an equal share of the third limit under pressure', () => {
    const t = testSockets({ profile, limits: [10, 20, 3000] })
    const sk = testSock(t, t.stream)
    tcpEnterMemoryPressure(sk)
    fill(t, sk, 2000)
    pretendSockets(t, sk, 99)
    sk.rmemAlloc = 28 * 4096
    expect(tryTake(t, sk, 1)).toBe(true)
    // What is asked for counts as held: 30 pages × 100 sockets are not less than 3000.
    expect(tryTake(t, sk, 1)).toBe(false)
  })

  it('sees sockets in batches: a few of them count as none and share nothing', () => {
    const t = testSockets({ profile, limits: [10, 20, 3000] })
    const sk = testSock(t, t.stream)
    tcpEnterMemoryPressure(sk)
    fill(t, sk, 2000)
    sk.rmemAlloc = 2999 * 4096
    for (let i = 1; i < 31; i += 1) testSock(t, t.stream)
    expect(tryTake(t, sk, 100)).toBe(true)
    testSock(t, t.stream)
    expect(tryTake(t, sk, 1)).toBe(false)
  })

  it('knows no shares where a protocol has no pressure flag: the minimum or nothing', () => {
    const t = testSockets({ profile, limits: [10, 20, 3000] })
    const sk = testSock(t, t.dgram)
    fill(t, sk, 11)
    sk.rmemAlloc = 4096
    expect(tryTake(t, sk, 1)).toBe(false)
    sk.rmemAlloc = 4000
    expect(tryTake(t, sk, 1)).toBe(true)
    expect(protoMemoryPressure(t.dgram)).toBe('NI')
  })

  it('lets a stream at its send buffer go over the third limit, and shrinks that buffer', () => {
    const t = testSockets({ profile, limits: [10, 20, 30] })
    const sk = testSock(t, t.stream)
    fill(t, sk, 100)
    sk.wmemQueued = 100_000
    sk.sndbuf = 200_000
    expect(tryTake(t, sk, 1, SK_MEM_SEND)).toBe(true)
    expect(sk.sndbuf).toBe(50_000)
    const dgram = testSock(t, t.dgram)
    fill(t, dgram, 100)
    dgram.wmemQueued = 100_000
    dgram.wmemAlloc = 100_000
    expect(tryTake(t, dgram, 1, SK_MEM_SEND)).toBe(false)
  })

  it('leaves a send buffer alone that the user has set, and never goes below the least', () => {
    const t = testSockets({ profile })
    const sk = testSock(t, t.stream)
    sk.sndbuf = 100_000
    sk.wmemQueued = 50_000
    sk.userlocks = 1
    skStreamModerateSndbuf(sk)
    expect(sk.sndbuf).toBe(100_000)
    sk.userlocks = 0
    skStreamModerateSndbuf(sk)
    expect(sk.sndbuf).toBe(25_000)
    sk.wmemQueued = 0
    skStreamModerateSndbuf(sk)
    expect(sk.sndbuf).toBe(t.profile.derived.SOCK_MIN_SNDBUF)
  })
})

describe('scheduling and charging', () => {
  it('takes whole pages for what is lacking, pays from them, and gives whole pages back', () => {
    const t = testSockets()
    const sk = testSock(t, t.dgram)
    expect(skRmemSchedule(t.cpu, sk, null, 5000)).toBe(true)
    expect(sk.forwardAlloc).toBe(8192)
    skMemCharge(sk, 5000)
    sk.rmemAlloc += 5000
    expect(skRmemSchedule(t.cpu, sk, null, 3192)).toBe(true)
    expect(sk.forwardAlloc).toBe(3192)
    auditSocks(t.env)
    sk.rmemAlloc -= 5000
    skMemUncharge(t.cpu, sk, 5000)
    expect(sk.forwardAlloc).toBe(0)
    auditSocks(t.env)
  })

  it('keeps what SO_RESERVE_MEM reserves and is not used', () => {
    const t = testSockets()
    const sk = testSock(t, t.stream)
    sk.reservedMem = 8192
    expect(skWmemSchedule(t.cpu, sk, 12_288)).toBe(true)
    skMemReclaim(t.cpu, sk)
    expect(sk.forwardAlloc).toBe(8192)
    sk.reservedMem = 0
    skMemReclaim(t.cpu, sk)
    expect(sk.forwardAlloc).toBe(0)
  })

  it('asks no limit when it is forced', () => {
    const t = testSockets({ limits: [0, 0, 0] })
    const sk = testSock(t, t.stream)
    fill(t, sk, 5)
    skForcedMemSchedule(t.cpu, sk, 10_000)
    expect([sk.forwardAlloc, t.stream.memory!.pages]).toEqual([12_288, 8])
  })

  it('does nothing for a protocol that does not count', () => {
    const t = testSockets()
    const plain = new Proto({ name: 'TESTRAW', objSize: 512 })
    protoRegister(t.env, plain)
    const sk = testSock(t, plain)
    expect(skWmemSchedule(t.cpu, sk, 1e6)).toBe(true)
    skMemCharge(sk, 1e6)
    skMemUncharge(t.cpu, sk, 1e6)
    expect(sk.forwardAlloc).toBe(0)
    expect(protoMemoryAllocated(plain)).toBe(-1)
  })

  it.each([1, 2, 3, 4, 5, 6])('loses no page over a random life of many sockets on two CPUs (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const t = testSockets({ limits: [rng.below(200), 200 + rng.below(200), 400 + rng.below(400)] })
    t.env.memPcpuRsv[0] = 1 + rng.below(64)
    const socks = Array.from({ length: 8 }, (_, i) => testSock(t, i % 2 === 0 ? t.stream : t.dgram))
    const charges = new Map<Sock, { bytes: number; send: boolean }[]>(socks.map((sk) => [sk, []]))
    let refused = 0
    for (let step = 0; step < 3000; step += 1) {
      const cpu = t.cpus[rng.below(2)]!
      const sk = socks[rng.below(socks.length)]!
      const held = charges.get(sk)!
      if (rng.below(100) < 55) {
        const bytes = 1 + rng.below(rng.below(2) === 0 ? 600 : 70_000)
        const send = sk.proto === t.stream && rng.below(2) === 0
        const ok = send ? skWmemSchedule(cpu, sk, bytes) : skRmemSchedule(cpu, sk, null, bytes)
        if (!ok) refused += 1
        else {
          skMemCharge(sk, bytes)
          if (send) sk.wmemQueued += bytes
          else sk.rmemAlloc += bytes
          held.push({ bytes, send })
        }
      } else if (held.length > 0) {
        const [charge] = held.splice(rng.below(held.length), 1)
        if (charge!.send) sk.wmemQueued -= charge!.bytes
        else sk.rmemAlloc -= charge!.bytes
        skMemUncharge(cpu, sk, charge!.bytes)
      }
      auditSocks(t.env)
    }
    expect(refused).toBeGreaterThan(0)
    for (const sk of socks) {
      for (const { bytes, send } of charges.get(sk)!) {
        if (send) sk.wmemQueued -= bytes
        else sk.rmemAlloc -= bytes
        skMemUncharge(t.cpu, sk, bytes)
      }
      skMemReclaimFinal(t.cpu, sk)
      expect(sk.forwardAlloc).toBeLessThan(4096)
    }
    auditSocks(t.env)
  })

  it('counts the milliseconds of pressure and how often it began', () => {
    const t = testSockets({ limits: [0, 5, 100] })
    const flag = new PressureFlag()
    const proto = new Proto({
      name: 'TESTPRESSURE',
      objSize: 512,
      memory: new ProtoMemory(2),
      pressure: flag,
      sysctlMem: Float64Array.of(0, 5, 100),
      counterEnter: 0,
      counterChrono: 1,
    })
    protoRegister(t.env, proto)
    const sk = testSock(t, proto)
    const { mib } = t.env.initNet
    const [enter, chrono] = [mib[0]!, mib[1]!]
    t.env.memPcpuRsv[0] = 1
    expect(skMemSchedule(t.cpu, sk, 6 * 4096, SK_MEM_RECV)).toBe(true)
    t.clock.runUntil(t.clock.nowNs + 40_000_000)
    expect(flag.jiffies).not.toBe(0)
    skMemReclaim(t.cpu, sk)
    expect(mib[0]! - enter).toBe(1)
    // Pages are gone, but nothing is below a first limit of 0: the pressure stays.
    expect(flag.jiffies).not.toBe(0)
    proto.sysctlMem[0] = 1
    expect(skMemSchedule(t.cpu, sk, 4096, SK_MEM_RECV)).toBe(true)
    expect(flag.jiffies).toBe(0)
    expect(mib[1]! - chrono).toBe(40)
  })
})
