/**
 * Audits of socket accounting, and a small machine with sockets for tests. Each audit throws an `Error` that says in
 * words which law does not hold. They need a build with assertions.
 */
import { EventQueue } from '@netmem/base'
import { testMachine } from '@netmem/memory/testing'
import { type SkBuff, type Skbuffs, skbInit } from '@netmem/skbuff'
import { heldSkbs } from '@netmem/skbuff/testing'
import { SOCK_DGRAM, SOCK_STREAM } from './constants.js'
import { skSocketsAllocatedInc } from './memory-allocated.js'
import { PressureFlag, Proto, ProtoCounter, ProtoMemory, protoRegister } from './proto.js'
import type { Sock } from './sock.js'
import { skAlloc, sockInitData } from './sock-alloc.js'
import { type SockEnv, sockEnvCreate } from './sock-env.js'
import type { SockOps } from './sock-ops.js'
import { Task } from './task.js'
import { skUnusedReservedMem } from './unused-reserved.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`socket audit: ${words()}`)
}

const name = (sk: Sock): string => `socket ${sk.id} (${sk.proto.name})`

/** Bytes that a socket has charged to its protocol and not given back. */
export function chargedBytes(sk: Sock): number {
  if (sk.proto.memory === null) return 0
  let errors = 0
  const { skbs } = sk.env.skbs
  // Notifications of zero-copy sends wait there too, charged to option memory.
  for (let id = sk.errorQueue.first; id !== 0; id = skbs[id]!.next)
    if (skbs[id]!.destructor === sk.env.sockRmemFree) errors += skbs[id]!.truesize
  return sk.rmemAlloc + sk.wmemQueued - errors - (sk.proto.uncharged?.(sk) ?? 0)
}

/** Pages that a socket took from its protocol: what it has charged, and what it holds beyond. */
export const pagesOf = (sk: Sock): number => (sk.forwardAlloc + chargedBytes(sk)) / sk.env.pageSize

/**
 * The laws of one socket: counters are not negative; forward allocation and charges make whole pages; what is kept
 * beyond a page is reserved (`strict`, where the protocol keeps no more by a rule of its own).
 */
export function auditSock(sk: Sock, strict = false): void {
  for (const [what, bytes] of [
    ['rmem_alloc', sk.rmemAlloc],
    ['wmem_queued', sk.wmemQueued],
    ['omem_alloc', sk.omemAlloc],
    ['backlog', sk.backlogLen],
    ['drops', sk.drops],
    ['reserved_mem', sk.reservedMem],
  ] as const)
    check(bytes >= 0, () => `${name(sk)}: ${what} is ${bytes}`)
  check(sk.refcnt >= 0 && sk.wmemAlloc >= 0, () => `${name(sk)}: refcnt ${sk.refcnt}, wmem_alloc ${sk.wmemAlloc}`)
  if (sk.proto.memory === null) {
    check(sk.forwardAlloc === 0, () => `${name(sk)}: forward allocation ${sk.forwardAlloc} without accounting`)
    return
  }
  const pages = pagesOf(sk)
  check(
    Number.isInteger(pages) && pages >= 0,
    () => `${name(sk)}: forward allocation ${sk.forwardAlloc} and charges ${chargedBytes(sk)} are not whole pages`,
  )
  if (strict)
    check(
      sk.forwardAlloc - skUnusedReservedMem(sk) < sk.env.pageSize,
      () => `${name(sk)}: keeps ${sk.forwardAlloc} bytes, a page or more of them for nothing`,
    )
}

/**
 * The laws of all sockets of a machine: what packets hold of senders is what the senders are charged; pages taken by
 * sockets are what each protocol counts, its per-CPU parts included; groups know the pages of their sockets.
 */
export function auditSocks(env: SockEnv): void {
  const inFlight = new Map<number, number>()
  for (const skb of heldSkbs(env.skbs)) addInFlight(env, skb, inFlight)
  const taken = new Map<ProtoMemory, number>()
  const byGroup = new Map<unknown, number>()
  for (const sk of env.socks) {
    if (sk === null) continue
    auditSock(sk)
    const own = sk.refcnt > 0 || sk.wmemAlloc === 1 ? 1 : 0
    const held = (inFlight.get(sk.id) ?? 0) + own
    check(sk.wmemAlloc === held, () => `${name(sk)}: wmem_alloc ${sk.wmemAlloc}, its packets and itself hold ${held}`)
    if (sk.proto.memory === null) continue
    taken.set(sk.proto.memory, (taken.get(sk.proto.memory) ?? 0) + pagesOf(sk))
    if (sk.memcg !== null) byGroup.set(sk.memcg, (byGroup.get(sk.memcg) ?? 0) + pagesOf(sk))
  }
  for (const proto of env.protos) {
    const { memory } = proto
    if (memory === null) continue
    let counted = memory.pages
    for (const local of memory.perCpu) {
      check(Math.abs(local) < env.memPcpuRsv[0]!, () => `${proto.name}: a CPU holds ${local} pages back`)
      counted += local
    }
    const pages = taken.get(memory) ?? 0
    check(counted === pages, () => `${proto.name}: counts ${counted} pages, its sockets took ${pages}`)
  }
  for (const memcg of env.memcgs.list) {
    const pages = byGroup.get(memcg) ?? 0
    const counted = env.memcgs.onDfl ? memcg.sockPages : memcg.tcpmem.usage
    check(
      counted >= pages || counted === 0,
      () => `group ${memcg.id}: counts ${counted} pages, its sockets took ${pages}`,
    )
  }
}

function addInFlight(env: SockEnv, skb: SkBuff, inFlight: Map<number, number>): void {
  const { destructor } = skb
  if (skb.sk === 0 || destructor === 0) return
  if (destructor !== env.sockWfree && destructor !== env.tcpWfree && !env.wmemDestructors.includes(destructor)) return
  inFlight.set(skb.sk, (inFlight.get(skb.sk) ?? 0) + skb.truesize)
}

// Fixtures.

/** A machine with sockets, and a stream and a datagram protocol that do nothing but count. */
export interface TestSockets extends ReturnType<typeof testMachine> {
  readonly clock: EventQueue
  readonly skbs: Skbuffs
  readonly env: SockEnv
  readonly task: Task
  readonly stream: Proto
  readonly dgram: Proto
}

/** Makes a machine with memory, skbs, sockets and two protocols whose limits `limits` are pages. */
export function testSockets(
  options: Parameters<typeof testMachine>[0] & { limits?: readonly [number, number, number] } = {},
): TestSockets {
  const machine = testMachine(options)
  const { mem, trace, cpus, profile } = machine
  const clock = new EventQueue()
  const skbs = skbInit({ mem, cpus: cpus.length, trace, profile })
  const env = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile })
  const sysctlMem = Float64Array.from(options.limits ?? [1000, 2000, 3000])
  const stream = new Proto({
    name: 'TESTSTREAM',
    objSize: 2048,
    memory: new ProtoMemory(cpus.length),
    pressure: new PressureFlag(),
    socketsAllocated: new ProtoCounter(),
    sysctlMem,
    rmemMin: () => 4096,
    wmemMin: () => 4096,
    maxHeader: 192,
  })
  const dgram = new Proto({
    name: 'TESTDGRAM',
    objSize: 1024,
    memory: new ProtoMemory(cpus.length),
    sysctlMem,
    rmemMin: () => 4096,
    wmemMin: () => 4096,
  })
  protoRegister(env, stream)
  protoRegister(env, dgram)
  const task = new Task(1, cpus[0]!, env.initNet)
  return { ...machine, clock, skbs, env, task, stream, dgram }
}

/** @returns a socket of one of the test protocols, with one reference. */
export function testSock(t: TestSockets, proto: Proto): Sock {
  const sk = skAlloc(t.env, t.cpus[0]!, t.task, t.env.initNet, 2, t.mem.gfp.GFP_KERNEL, proto, {} as SockOps)
  if (sk === null) throw new Error('no memory for a socket')
  sockInitData(sk)
  sk.type = proto === t.stream ? SOCK_STREAM : SOCK_DGRAM
  skSocketsAllocatedInc(t.cpu, sk)
  return sk
}
