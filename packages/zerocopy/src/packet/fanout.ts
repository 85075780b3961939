/**
 * Fanout: several packet sockets share what one tap receives. The group has the tap; each packet goes to one
 * member, chosen by its flow, in turn, by CPU, at random, by transmit queue, by a program, or to the next that has room.
 */
import { type Addr, type Cpu, ERRNO, type Gfp, NULL } from '@netmem/base'
import { kfree, kmalloc } from '@netmem/memory'
import { kfreeSkb, type SkBuff } from '@netmem/skbuff'
import { AF_PACKET, type SkFilter, SOCKF_FILTER_LOCKED, type Sock, skProgCreate, skRunFilter } from '@netmem/sockmem'
import {
  devAddPack,
  devRemovePack,
  type NetDevice,
  type PacketType,
  reciprocalScale,
  skbGetHash,
  skbGetHashSymmetric,
} from '@netmem/virtual-nic'
import {
  PACKET_FANOUT_CBPF,
  PACKET_FANOUT_CPU,
  PACKET_FANOUT_EBPF,
  PACKET_FANOUT_FLAG_IGNORE_OUTGOING,
  PACKET_FANOUT_FLAG_ROLLOVER,
  PACKET_FANOUT_FLAG_UNIQUEID,
  PACKET_FANOUT_LB,
  PACKET_FANOUT_MAX,
  PACKET_FANOUT_QM,
  PACKET_FANOUT_RND,
  PACKET_FANOUT_ROLLOVER,
} from './constants.js'
import { type PacketEnv, PacketHook, type PacketSock, pktSk } from './packet-sock.js'
import { packetRcvHasRoom, ROOM_LOW, ROOM_NONE, ROOM_NORMAL } from './room.js'

/** Models `ROLLOVER_HLEN`. */
const ROLLOVER_HLEN = 16
/** `sizeof(struct packet_rollover)` and of `struct packet_fanout` without its members, about. */
const ROLLOVER_BYTES = 192
const FANOUT_BYTES = 256
const POINTER_BYTES = 8
const LEGACY_MAX_MEMBERS = 256

/** Models `struct packet_rollover`: one member's memory of where its overflow went. */
export class PacketRollover {
  sock = 0
  num = 0
  numHuge = 0
  numFailed = 0
  readonly history = new Int32Array(ROLLOVER_HLEN)
  constructor(readonly memory: Addr) {}
}

/** Models `struct packet_fanout`. `arr` holds the members that receive; `skRef` counts all, running or not. */
export class PacketFanout {
  readonly arr: PacketSock[] = []
  skRef = 0
  rrCur = 0
  filter: SkFilter | null = null
  readonly hook: PacketHook

  constructor(
    readonly env: PacketEnv,
    readonly net: Sock['net'],
    readonly id: number,
    readonly type: number,
    /** The upper byte of the type and flags word. */
    readonly flags: number,
    readonly maxNumMembers: number,
    readonly memory: Addr,
  ) {
    this.hook = new PacketHook(net.id, packetRcvFanout, null, this, (skb) => matchFanoutGroup(this, skb))
  }
}

/** Models `match_fanout_group`: what a member sends, no member receives. */
function matchFanoutGroup(f: PacketFanout, skb: SkBuff): boolean {
  if (skb.sk === 0) return false
  const sk = f.env.socks.socks[skb.sk] as Sock
  return sk.family === AF_PACKET && pktSk(sk).fanout === f
}

const hasFlag = (f: PacketFanout, flag: number): boolean => (f.flags & (flag >> 8)) !== 0

// Hot path: each packet.

/** Models `packet_rcv_fanout` (net/packet/af_packet.c). Differs: `PACKET_FANOUT_FLAG_DEFRAG` puts nothing together. */
function packetRcvFanout(cpu: Cpu, skb: SkBuff, dev: NetDevice, pt: PacketType, orig: NetDevice): number {
  const f = (pt as PacketHook).fanout!
  const num = f.arr.length
  if (dev.ns !== f.net.id || num === 0) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'packet_rcv_fanout')
    return 0
  }
  let idx = fanoutDemux(cpu, f, skb, num)
  if (hasFlag(f, PACKET_FANOUT_FLAG_ROLLOVER)) idx = fanoutDemuxRollover(f, skb, idx, true, num)
  const { hook } = f.arr[idx]!
  return hook.func(cpu, skb, dev, hook, orig)
}

function fanoutDemux(cpu: Cpu, f: PacketFanout, skb: SkBuff, num: number): number {
  const { env } = f
  switch (f.type) {
    case PACKET_FANOUT_LB:
      f.rrCur = (f.rrCur + 1) | 0
      return (f.rrCur >>> 0) % num
    case PACKET_FANOUT_CPU:
      return cpu.id % num
    case PACKET_FANOUT_RND:
      return env.random.below(num)
    case PACKET_FANOUT_QM:
      return skb.queueMapping % num
    case PACKET_FANOUT_ROLLOVER:
      return fanoutDemuxRollover(f, skb, 0, false, num)
    case PACKET_FANOUT_CBPF:
    case PACKET_FANOUT_EBPF:
      return f.filter === null ? 0 : skRunFilter(f.filter, skb) % num
    default:
      return reciprocalScale(skbGetHashSymmetric(env.devs, skb), num)
  }
}

/** Models `fanout_demux_rollover`: the first member with room, from where the last search ended. */
function fanoutDemuxRollover(f: PacketFanout, skb: SkBuff, idx: number, trySelf: boolean, num: number): number {
  const po = f.arr[idx]!
  const rollover = po.rollover!
  let skip: PacketSock | null = null
  let room = ROOM_NONE
  if (trySelf) {
    room = packetRcvHasRoom(po, skb)
    if (room === ROOM_NORMAL || (room === ROOM_LOW && !fanoutFlowIsHuge(po, rollover, skb))) return idx
    skip = po
  }
  const from = Math.min(rollover.sock, num - 1)
  let i = from
  do {
    const next = f.arr[i]!
    if (next !== skip && !next.pressure && packetRcvHasRoom(next, skb) === ROOM_NORMAL) {
      if (i !== from) rollover.sock = i
      rollover.num += 1
      if (room === ROOM_LOW) rollover.numHuge += 1
      return i
    }
    i += 1
    if (i === num) i = 0
  } while (i !== from)
  rollover.numFailed += 1
  return idx
}

/** Models `fanout_flow_is_huge`: more than half of the last flows seen were this one. */
function fanoutFlowIsHuge(po: PacketSock, rollover: PacketRollover, skb: SkBuff): boolean {
  const hash = skbGetHash(po.env.devs, skb)
  const { history } = rollover
  let count = 0
  for (let i = 0; i < ROLLOVER_HLEN; i++) if (history[i] === hash) count += 1
  history[po.env.random.below(ROLLOVER_HLEN)] = hash
  return count > ROLLOVER_HLEN >> 1
}

// Cold path: joining and leaving.

/** Models `__fanout_link`: the first member brings the tap. */
export function fanoutLink(f: PacketFanout, po: PacketSock): void {
  f.arr.push(po)
  if (f.arr.length === 1) devAddPack(f.env.devs, f.hook)
}

/** Models `__fanout_unlink`: the last member takes the hole. */
export function fanoutUnlink(f: PacketFanout, po: PacketSock): void {
  const i = f.arr.indexOf(po)
  f.arr[i] = f.arr[f.arr.length - 1]!
  f.arr.length -= 1
  if (f.arr.length === 0) devRemovePack(f.env.devs, f.hook)
}

function fanoutFindNewId(env: PacketEnv, net: Sock['net']): number {
  const free = (id: number): boolean => !env.fanouts.some((f) => f.id === id && f.net === net)
  let id = env.fanoutNextId
  do {
    if (free(id)) {
      env.fanoutNextId = (id + 1) & 0xffff
      return id
    }
    id = (id + 1) & 0xffff
  } while (id !== env.fanoutNextId)
  return -1
}

/**
 * Models `fanout_add`: joins a group, and makes it if nobody has.
 *
 * @param typeFlags type in the low byte, flags above. @param maxNumMembers 0 for the default.
 */
export function fanoutAdd(cpu: Cpu, po: PacketSock, args: number, typeFlags: number, maxNumMembers: number): number {
  const { env, sk } = po
  const { gfp } = env.mem
  const type = typeFlags & 0xff
  let flags = typeFlags >> 8
  let id = args
  if (type > PACKET_FANOUT_EBPF) return -ERRNO.EINVAL
  if (type === PACKET_FANOUT_ROLLOVER && (typeFlags & PACKET_FANOUT_FLAG_ROLLOVER) !== 0) return -ERRNO.EINVAL
  if (po.fanout !== null) return -ERRNO.EALREADY
  let rollover: PacketRollover | null = null
  if (type === PACKET_FANOUT_ROLLOVER || (typeFlags & PACKET_FANOUT_FLAG_ROLLOVER) !== 0) {
    const memory = kmalloc(env.mem, cpu, ROLLOVER_BYTES, (gfp.GFP_KERNEL | gfp.ZERO) as Gfp, 'fanout_add')
    if (memory === NULL) return -ERRNO.ENOMEM
    rollover = new PacketRollover(memory)
  }
  const give = (err: number): number => {
    if (rollover !== null) kfree(env.mem, cpu, rollover.memory, 'fanout_add')
    return err
  }
  if ((typeFlags & PACKET_FANOUT_FLAG_UNIQUEID) !== 0) {
    if (id !== 0) return give(-ERRNO.EINVAL)
    id = fanoutFindNewId(env, sk.net)
    if (id < 0) return give(-ERRNO.ENOMEM)
    flags &= ~(PACKET_FANOUT_FLAG_UNIQUEID >> 8)
  }
  let match = env.fanouts.find((f) => f.id === id && f.net === sk.net) ?? null
  if (match !== null) {
    if (match.flags !== flags) return give(-ERRNO.EINVAL)
    if (maxNumMembers !== 0 && maxNumMembers !== match.maxNumMembers) return give(-ERRNO.EINVAL)
  } else {
    if (maxNumMembers > PACKET_FANOUT_MAX) return give(-ERRNO.EINVAL)
    const members = maxNumMembers === 0 ? LEGACY_MAX_MEMBERS : maxNumMembers
    const bytes = FANOUT_BYTES + members * POINTER_BYTES
    const memory = kmalloc(env.mem, cpu, bytes, (gfp.GFP_KERNEL | gfp.ZERO) as Gfp, 'fanout_add')
    if (memory === NULL) return give(-ERRNO.ENOMEM)
    match = new PacketFanout(env, sk.net, id, type, flags, members, memory)
    match.hook.type = po.hook.type
    match.hook.dev = po.hook.dev
    if (env.socks.profile.features.packetFanoutIgnoreOutgoing)
      match.hook.ignoreOutgoing = (typeFlags & PACKET_FANOUT_FLAG_IGNORE_OUTGOING) !== 0
    env.fanouts.unshift(match)
  }
  const err = join(match, po, type)
  if (err === 0) {
    po.rollover = rollover
    return 0
  }
  if (match.skRef === 0) fanoutFree(cpu, match)
  return give(err)
}

function join(match: PacketFanout, po: PacketSock, type: number): number {
  const whenDown = po.env.socks.profile.features.packetFanoutWhenDown
  if (whenDown ? po.num === 0 : !po.running) return -ERRNO.EINVAL
  if (match.type !== type || match.hook.type !== po.hook.type || match.hook.dev !== po.hook.dev) return -ERRNO.EINVAL
  if (match.skRef >= match.maxNumMembers) return -ERRNO.ENOSPC
  po.fanout = match
  match.skRef += 1
  if (po.running) {
    devRemovePack(po.env.devs, po.hook)
    fanoutLink(match, po)
  }
  return 0
}

function fanoutFree(cpu: Cpu, f: PacketFanout): void {
  const { fanouts, mem } = f.env
  fanouts.splice(fanouts.indexOf(f), 1)
  kfree(mem, cpu, f.memory, 'fanout_release')
}

/** Models `fanout_release` and what `packet_release` does after it. The member is no longer linked. */
export function fanoutRelease(cpu: Cpu, po: PacketSock): void {
  const f = po.fanout
  po.fanout = null
  if (po.rollover !== null) kfree(po.env.mem, cpu, po.rollover.memory, 'packet_release')
  po.rollover = null
  if (f === null) return
  f.skRef -= 1
  if (f.skRef === 0) fanoutFree(cpu, f)
}

/** Models `fanout_set_data`. @param insns a classic program, null when the option carried none. */
export function fanoutSetData(po: PacketSock, insns: Int32Array | null): number {
  const f = po.fanout!
  if (f.type !== PACKET_FANOUT_CBPF && f.type !== PACKET_FANOUT_EBPF) return -ERRNO.EINVAL
  if ((po.sk.flags & SOCKF_FILTER_LOCKED) !== 0) return -ERRNO.EPERM
  // Programs of the other instruction set come as descriptors, and there are none here.
  if (f.type === PACKET_FANOUT_EBPF) return -ERRNO.EBADF
  const prog = insns === null ? null : skProgCreate(po.sk.env, insns)
  if (prog === null) return -ERRNO.EINVAL
  f.filter = prog
  return 0
}
