/** Proofs about packet sockets: ring pages, charges, frames on their way and taps are each accounted for once. */
import { compoundHead } from '@netmem/memory'
import { destructorArg, type SkBuff, ubufIndex } from '@netmem/skbuff'
import { heldSkbs } from '@netmem/skbuff/testing'
import { BD } from './constants.js'
import { type PacketRing, pgvAddr } from './packet-ring.js'
import type { PacketEnv, PacketSock } from './packet-sock.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`packet socket audit: ${words()}`)
}

const name = (po: PacketSock): string => `packet socket ${po.sk.id}`

/** @returns every packet socket of the machine. */
export const packetSocks = (env: PacketEnv): PacketSock[] => env.socks.nets.flatMap((net) => env.sklist(net))

/**
 * The laws of all packet sockets: the ring holds a reference on each of its pages, and each area that maps it one more;
 * receive memory is what the queue holds; a frame is on its way exactly when a packet names it; the block being filled
 * is as long as its packets; a socket is on a device's list, or in its group, exactly while it receives.
 */
export function auditPackets(env: PacketEnv): void {
  const held = heldSkbs(env.socks.skbs)
  for (const po of packetSocks(env)) {
    auditRing(po, po.rxRing)
    auditRing(po, po.txRing)
    auditCharges(po)
    auditInFlight(po, held)
    auditBlocks(po)
    auditHook(po)
  }
  for (const f of env.fanouts) {
    const members = packetSocks(env).filter((po) => po.fanout === f)
    check(f.skRef === members.length, () => `group ${f.id}: counts ${f.skRef} members, there are ${members.length}`)
    const running = members.filter((po) => po.running)
    check(
      f.arr.length === running.length && running.every((po) => f.arr.includes(po)),
      () => `group ${f.id}: delivers to ${f.arr.length} members, ${running.length} receive`,
    )
  }
}

function auditRing(po: PacketSock, rb: PacketRing): void {
  const { vec } = rb
  if (vec === null) return
  const { mem } = po.env
  for (let block = 0; block < vec.blocks.length; block++)
    for (let offset = 0; offset < vec.blockBytes; offset += 4096) {
      const pfn = compoundHead(mem, pgvAddr(vec, block, offset))
      const refs = mem.pages.refcount[pfn]!
      // A compound block counts every mapped page on its head.
      check(
        refs >= 1 + po.mapped,
        () => `${name(po)}: block ${block} has ${refs} references, ${po.mapped} areas map it`,
      )
    }
}

function auditCharges(po: PacketSock): void {
  const { skbs } = po.env.socks.skbs
  let queued = 0
  for (let id = po.sk.receiveQueue.first; id !== 0; id = skbs[id]!.next) queued += skbs[id]!.truesize
  check(po.sk.rmemAlloc === queued, () => `${name(po)}: rmem_alloc ${po.sk.rmemAlloc}, the queue holds ${queued}`)
}

function auditInFlight(po: PacketSock, held: readonly SkBuff[]): void {
  const named = new Set<number>()
  let count = 0
  for (const skb of held) {
    if (skb.sk !== po.sk.id || skb.destructor !== po.env.tpacketDestructor || skb.destructor === 0) continue
    named.add(ubufIndex(destructorArg(skb)))
    count += 1
  }
  check(count === named.size, () => `${name(po)}: a frame is on its way twice`)
  check(
    po.txRing.pending === count,
    () => `${name(po)}: ${po.txRing.pending} frames pending, ${count} packets hold one`,
  )
}

function auditBlocks(po: PacketSock): void {
  const pkc = po.rxRing.kbdq
  if (pkc === null) return
  const { i32 } = po.env.mem
  check(pkc.timer !== 0, () => `${name(po)}: no retire timer`)
  check(pkc.nxtOffset <= pkc.kblkSize, () => `${name(po)}: the next packet begins beyond the block`)
  const start = pgvAddr(po.rxRing.vec!, pkc.kactiveBlkNum, 0)
  // What the user has written over proves nothing.
  if (pkc.frozen || i32[(start + BD.status) >>> 2] !== 0) return
  const bytes = i32[(start + BD.blkLen) >>> 2]!
  check(bytes === pkc.nxtOffset, () => `${name(po)}: blk_len ${bytes}, the next packet begins at ${pkc.nxtOffset}`)
}

function auditHook(po: PacketSock): void {
  const { devs } = po.env
  const { hook } = po
  const listed =
    devs.ptypeAll.includes(hook) ||
    devs.ptypeBase.some((list) => list.includes(hook)) ||
    devs.devices.some((dev) => dev !== null && (dev.ptypeAll.includes(hook) || dev.ptypeSpecific.includes(hook)))
  check(
    listed === (po.running && po.fanout === null),
    () => `${name(po)}: ${listed ? 'taps a device' : 'taps nothing'}, running is ${po.running}`,
  )
}

/** @throws Error naming what is left: call at the end of a test, when all packet sockets are closed. */
export function assertPacketsQuiescent(env: PacketEnv): void {
  const left = packetSocks(env)
  check(left.length === 0, () => `${left.length} packet sockets are open`)
  check(env.fanouts.length === 0, () => `${env.fanouts.length} fanout groups are left`)
  const alive = env.proto.sockets
  check(alive === 0, () => `${alive} packet sockets are waiting for their packets`)
}
