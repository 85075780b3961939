/** Audits that prove the conservation laws of the device layer, and a small machine with one for tests. */
import { EventQueue } from '@netmem/base'
import { type Dma, type DmaParams, dmaInit } from '@netmem/dma'
import { testMachine } from '@netmem/memory/testing'
import { type PagePools, pagePoolsInit } from '@netmem/page-pool'
import { type Skbuffs, skbInit } from '@netmem/skbuff'
import { GRO_HASH_BUCKETS, MAX_GRO_SKBS, NAPIF_STATE_SCHED, type NapiList, type NapiStruct } from './napi-struct.js'
import { type NetDevs, netDevInit } from './net-devs.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`device audit: ${words()}`)
}

/** What a test gets: one machine up to this layer. */
export interface TestNet extends ReturnType<typeof testMachine> {
  readonly clock: EventQueue
  readonly pools: PagePools
  readonly skbs: Skbuffs
  readonly env: NetDevs
  readonly dma: Dma
}

/** Makes a machine with memory, page pools, skbs and a device layer. */
export function testNet(
  options: Parameters<typeof testMachine>[0] & {
    rxPacketNs?: number
    irqNs?: number
    seed?: number
    dma?: Partial<DmaParams>
  } = {},
): TestNet {
  const machine = testMachine(options)
  const { mem, trace, cpus, profile } = machine
  const clock = new EventQueue()
  const pools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
  const skbs = skbInit({ mem, cpus: cpus.length, trace, profile, pagePools: pools })
  const costs = { rxPacketNs: options.rxPacketNs ?? 0, irqNs: options.irqNs ?? 0 }
  const env = netDevInit({ mem, skbs, pagePools: pools, cpus, clock, trace, profile, costs, seed: options.seed ?? 1 })
  const dma = dmaInit({ mem, profile, trace, cpus, events: clock, ...options.dma })
  return { ...machine, clock, pools, skbs, env, dma }
}

/**
 * Walks every queue of the layer.
 *
 * @throws Error when a list's length is not what its head says, when a packet is in two places, when a scheduled
 *   NAPI is on no list or an idle one on some, or when a GRO bucket and its bit disagree.
 */
export function auditNetDevs(env: NetDevs): void {
  const seen = new Map<number, string>()
  const visit = (first: number, where: string): number => {
    let n = 0
    for (let id = first; id !== 0; id = env.skbs.skbs[id]!.next) {
      const before = seen.get(id)
      check(before === undefined, () => `skb ${id} is in ${where} and in ${before}`)
      check(env.skbs.skbs[id]!.users > 0, () => `skb ${id} in ${where} has no holder`)
      seen.set(id, where)
      n++
    }
    return n
  }
  const listed = new Map<NapiStruct, number>()
  const list = (l: NapiList): void => {
    let last: NapiStruct | null = null
    for (let n = l.first; n !== null; n = n.next) {
      listed.set(n, (listed.get(n) ?? 0) + 1)
      last = n
    }
    check(l.last === last, () => 'a poll list does not end where its head says')
  }
  for (const sd of env.softnet) {
    const at = `CPU ${sd.cpu.id}`
    for (const [name, q] of [
      ['input queue', sd.inputPktQueue],
      ['process queue', sd.processQueue],
    ] as const) {
      const n = visit(q.first, `${at} ${name}`)
      check(n === q.qlen, () => `${at}: ${name} says ${q.qlen}, holds ${n}`)
    }
    list(sd.pollList)
    list(sd.rxList)
    list(sd.rxRepoll)
    if (!sd.inNetRxAction) check(sd.rxList.first === null, () => `${at}: a private poll list is left over`)
    for (const bulk of sd.xdpFlush.devs) check(bulk.frames.length === 0, () => `${at}: XDP frames were not flushed`)
    // A backlog with packets must have its NAPI scheduled, or nobody would ever look.
    if (sd.inputPktQueue.qlen + sd.processQueue.qlen > 0)
      check((sd.backlog.state & NAPIF_STATE_SCHED) !== 0, () => `${at}: packets wait and the backlog is not scheduled`)
  }
  for (const napi of env.napiById) if (napi !== null) auditNapi(env, napi, visit)
  for (const [napi, times] of listed) {
    check(times === 1, () => `NAPI ${napi.napiId} is on ${times} poll lists`)
    check((napi.state & NAPIF_STATE_SCHED) !== 0, () => `NAPI ${napi.napiId} is listed and not scheduled`)
  }
  for (const dev of env.devices) {
    if (dev === null) continue
    for (const txq of dev.txq) {
      if (txq.qdisc === null) continue
      let n = 0
      for (const band of txq.qdisc.bands) n += visit(band.first, `${dev.name} qdisc`)
      check(n === txq.qdisc.qlen, () => `${dev.name}: qdisc says ${txq.qdisc!.qlen}, holds ${n}`)
      visit(txq.qdisc.requeued.first, `${dev.name} requeued`)
    }
    for (const value of dev.stats) check(value >= 0, () => `${dev.name}: a counter went below zero`)
    dev.audit?.()
  }
}

function auditNapi(env: NetDevs, napi: NapiStruct, visit: (first: number, where: string) => number): void {
  for (let b = 0; b < GRO_HASH_BUCKETS; b++) {
    const n = napi.groCount[b]!
    check(n >= 0 && n <= MAX_GRO_SKBS, () => `NAPI ${napi.napiId}: bucket ${b} holds ${n}`)
    const bit = (napi.groBitmask & (1 << b)) !== 0
    check(bit === n > 0, () => `NAPI ${napi.napiId}: bucket ${b} holds ${n} and its bit says ${bit}`)
    for (let i = 0; i < n; i++) {
      const id = napi.groHash[b * MAX_GRO_SKBS + i]!
      check(env.skbs.skbs[id]!.users > 0, () => `NAPI ${napi.napiId} holds skb ${id}, which nobody holds`)
    }
  }
  visit(napi.rxFirst, `NAPI ${napi.napiId} receive list`)
}

/** @throws Error naming what still waits: call at the end of a test, when everything should have been delivered. */
export function assertNetDevsQuiescent(env: NetDevs): void {
  auditNetDevs(env)
  for (const sd of env.softnet) {
    check(sd.pending === 0, () => `CPU ${sd.cpu.id}: softirqs ${sd.pending.toString(2)} pending`)
    check(sd.inputPktQueue.qlen + sd.processQueue.qlen === 0, () => `CPU ${sd.cpu.id}: packets in the backlog`)
    check(sd.cpu.bhDisabled === 0 && sd.cpu.hardirq === 0, () => `CPU ${sd.cpu.id}: contexts do not balance`)
  }
  for (const napi of env.napiById)
    if (napi !== null) check(napi.rxCount === 0 && napi.groBitmask === 0, () => `NAPI ${napi.napiId} holds packets`)
  check(env.xdpFrames.live === 0, () => `${env.xdpFrames.live} XDP frames are out`)
}

export { collect, ppCard, ringCard, type TestCard } from './testing-card.js'
export { type FrameOptions, tcpFrame, udpFrame } from './testing-frames.js'
