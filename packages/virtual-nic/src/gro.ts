/**
 * Generic receive offload: packets of one flow that follow each other are held in the NAPI and merged, so that
 * the stack handles one large packet instead of many. What belongs to a protocol is in an offload
 * (`gro-inet.ts`); what is here knows only flows, buckets and when to let go.
 *
 * Invariant: `groCount[b]` packets sit in bucket `b`, the newest first, and bit `b` of `groBitmask` says that
 * it is not 0.
 */
import type { Cpu } from '@netmem/base'
import {
  CHECKSUM_COMPLETE,
  CHECKSUM_UNNECESSARY,
  fragAddr,
  fragLen,
  fragOff,
  gsoSegs,
  gsoType,
  kfreeSkb,
  kfreeSkbUnchecked,
  napiKfreeSkb,
  napiSkbCachePut,
  nrFrags,
  SKB_FCLONE_MASK,
  type SkBuff,
  setFragLen,
  setFragOff,
  setGsoSize,
  skbHasFragList,
  skbHeadlen,
  skbIsGso,
  skbReleaseHeadState,
} from '@netmem/skbuff'
import { ETH_HLEN } from './eth.js'
import { NETIF_F_GRO, SKB_GSO_DODGY, SKB_GSO_TCPV4, SKB_GSO_TCPV6 } from './features.js'
import { dropFirstFrag } from './frag-shift.js'
import { GRO_CSUM_VALID, GRO_FLUSH, GRO_FREE, GRO_FREE_STOLEN_HEAD, GRO_SAME_FLOW, skbGroLen } from './gro-cb.js'
import { GRO_HASH_BUCKETS, MAX_GRO_SKBS, type NapiStruct } from './napi-struct.js'
import type { NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { findOffload, GRO_IN_PROGRESS, type PacketOffload } from './offload.js'
import { netifReceiveSkb, netifReceiveSkbList } from './receive.js'

/** Models `enum gro_result`. */
export const GRO_MERGED = 0
export const GRO_MERGED_FREE = 1
export const GRO_HELD = 2
export const GRO_NORMAL = 3
export const GRO_CONSUMED = 4

// Hot path.

/**
 * Models `napi_gro_receive` and `gro_receive_skb` (net/core/gro.c). Takes the skb; `data` is behind the link header.
 *
 * @returns one of `GRO_*`.
 */
export function napiGroReceive(cpu: Cpu, napi: NapiStruct, skb: SkBuff): number {
  const env = napi.env
  const dev = env.devices[skb.dev]!
  skb.napiId = napi.napiId
  // A device that does not merge, or whose program must see single frames, goes the short way: at once, where the
  // kernel gathers eight. Nothing but the order of the work differs, and a packet stays in the cache.
  if ((dev.features & NETIF_F_GRO) === 0 || dev.xdpProg !== null) {
    if (napi.rxCount === 0) netifReceiveSkb(env, cpu, skb)
    else groNormalOne(cpu, napi, skb, 1)
    return GRO_NORMAL
  }
  const offload = findOffload(env, skb.protocol)
  if (
    offload === null ||
    (env.udpGroUsers === 0 && (dev.features & env.udpGroFeatures) === 0 && isPlainUdp(env, skb))
  ) {
    groNormalOne(cpu, napi, skb, 1)
    return GRO_NORMAL
  }
  skb.cb1 = 0
  return napiSkbFinish(cpu, napi, skb, devGroReceive(cpu, napi, skb, dev, offload))
}

/**
 * UDP that nobody asked to have merged takes part in no flow: the kernel's walk through the layers ends in
 * "normal" without touching a held packet, so it is left out. Benchmark: `rx.udp.gro`.
 */
function isPlainUdp(env: NetDevs, skb: SkBuff): boolean {
  if (skb.len - skb.dataLen < 20 || skb.protocol !== 0x0800) return false
  const { u8, dv } = env.mem
  const at = skb.data >>> 0
  if (u8[at + 9] !== 17) return false
  // Where UDP claims another length than IP, it matters that GRO sums up all of it: the long way.
  return dv.getUint16(at + 24) === skb.len - 20 || skb.len - skb.dataLen < 28
}

/** Models `gro_normal_one`: queues the packet to be passed up with others. @param segs packets it stands for. */
export function groNormalOne(cpu: Cpu, napi: NapiStruct, skb: SkBuff, segs: number): void {
  skb.next = 0
  if (napi.rxLast === 0) napi.rxFirst = skb.id
  else napi.env.skbs.skbs[napi.rxLast]!.next = skb.id
  napi.rxLast = skb.id
  napi.rxCount += segs
  if (napi.rxCount >= napi.env.sysctl.groNormalBatch) groNormalList(cpu, napi)
}

/** Models `gro_normal_list`: passes up what has gathered. */
export function groNormalList(cpu: Cpu, napi: NapiStruct): void {
  const first = napi.rxFirst
  if (first === 0) return
  napi.rxFirst = 0
  napi.rxLast = 0
  napi.rxCount = 0
  netifReceiveSkbList(napi.env, cpu, first)
}

/** Models `dev_gro_receive` (net/core/gro.c). @param known the packet's offload, looked up. @returns one of `GRO_*`; the skb is the caller's for `GRO_NORMAL`. */
export function devGroReceive(
  cpu: Cpu,
  napi: NapiStruct,
  skb: SkBuff,
  dev: NetDevice,
  known: PacketOffload | null = null,
): number {
  const offload = known ?? findOffload(napi.env, skb.protocol)
  if (offload === null) return GRO_NORMAL
  const env = napi.env
  const bucket = skb.hash & (GRO_HASH_BUCKETS - 1)
  groListPrepare(env, napi, bucket, skb, dev)
  skb.networkHeader = (skb.data + skb.cb1 - skb.head) | 0
  skb.macLen = skb.networkHeader - skb.macHeader
  let flags = skbHasFragList(skb) ? GRO_FLUSH : 0
  skb.cb3 = 1
  skb.cb5 = 0
  skb.cb6 = 0
  skb.cb7 = skb.cb1
  if (skbIsGso(skb)) {
    skb.cb3 = gsoSegs(skb)
    const type = gsoType(skb)
    // Only TCP whose headers were checked may be merged further.
    if ((type & (SKB_GSO_TCPV4 | SKB_GSO_TCPV6)) === 0 || (type & SKB_GSO_DODGY) !== 0) flags |= GRO_FLUSH
  }
  const summed = skb.ipSummed
  if (summed === CHECKSUM_COMPLETE) {
    skb.cb5 = skb.csum
    flags |= GRO_CSUM_VALID
  } else if (summed === CHECKSUM_UNNECESSARY) skb.cb6 = skb.csumLevel + 1
  skb.cb0 = flags
  const flushed = offload.groReceive(cpu, napi, bucket, skb)
  if (flushed === GRO_IN_PROGRESS) return GRO_CONSUMED
  if (flushed !== 0) {
    groUnlist(napi, bucket, flushed)
    napiGroComplete(cpu, napi, env.skbs.skbs[flushed]!)
  }
  const verdict = skb.cb0
  if ((verdict & GRO_SAME_FLOW) !== 0)
    return (verdict & (GRO_FREE | GRO_FREE_STOLEN_HEAD)) !== 0 ? GRO_MERGED_FREE : GRO_MERGED
  if ((verdict & GRO_FLUSH) !== 0) {
    groPullFromFrag0(cpu, skb)
    return GRO_NORMAL
  }
  if (napi.groCount[bucket]! >= MAX_GRO_SKBS) groFlushOldest(cpu, napi, bucket)
  groPullFromFrag0(cpu, skb)
  skb.cb4 = jiffies(env)
  skb.cb2 = skb.id
  if (!skbIsGso(skb)) setGsoSize(skb, skbGroLen(skb))
  groEnlist(napi, bucket, skb.id)
  return GRO_HELD
}

/** Models `napi_skb_finish`. */
function napiSkbFinish(cpu: Cpu, napi: NapiStruct, skb: SkBuff, ret: number): number {
  if (ret === GRO_NORMAL) groNormalOne(cpu, napi, skb, 1)
  else if (ret === GRO_MERGED_FREE) {
    if ((skb.cb0 & GRO_FREE_STOLEN_HEAD) !== 0) napiSkbFreeStolenHead(cpu, skb)
    else if ((skb.flags & SKB_FCLONE_MASK) !== 0) kfreeSkbUnchecked(cpu, skb, 'napi_skb_finish')
    else napiKfreeSkb(cpu, skb, 'CONSUMED')
  }
  return ret
}

/** Models `napi_skb_free_stolen_head`: its memory lives on as a fragment; only the descriptor ends. */
export function napiSkbFreeStolenHead(cpu: Cpu, skb: SkBuff): void {
  skbReleaseHeadState(cpu, skb)
  napiSkbCachePut(skb.env, cpu, skb)
}

/** Models `gro_list_prepare`: which held packets could be of the same flow, as far as the link layer tells. */
function groListPrepare(env: NetDevs, napi: NapiStruct, bucket: number, skb: SkBuff, dev: NetDevice): void {
  const skbs = env.skbs.skbs
  const n = napi.groCount[bucket]!
  for (let i = 0; i < n; i++) {
    const p = skbs[napi.groHash[bucket * MAX_GRO_SKBS + i]!]!
    let flags = p.cb0 & ~(GRO_FLUSH | GRO_SAME_FLOW)
    if (p.hash === skb.hash && p.dev === skb.dev && p.vlanTci === skb.vlanTci && sameLinkHeader(env, p, skb, dev))
      flags |= GRO_SAME_FLOW
    p.cb0 = flags
  }
}

function sameLinkHeader(env: NetDevs, p: SkBuff, skb: SkBuff, dev: NetDevice): boolean {
  const u8 = env.mem.u8
  const a = (p.head + p.macHeader) >>> 0
  const b = (skb.head + skb.macHeader) >>> 0
  const len = dev.hardHeaderLen === 0 ? 0 : ETH_HLEN
  for (let i = 0; i < len; i++) if (u8[a + i] !== u8[b + i]) return false
  return true
}

/** Models `gro_try_pull_from_frag0`: headers that were read in the first fragment move to the linear part. */
function groPullFromFrag0(cpu: Cpu, skb: SkBuff): void {
  const grow = skb.cb1 - skbHeadlen(skb)
  if (grow > 0) pullFromFrag0(cpu, skb, grow)
}

/** Models `gro_pull_from_frag0`. */
export function pullFromFrag0(cpu: Cpu, skb: SkBuff, grow: number): void {
  const from = fragAddr(skb, 0) >>> 0
  skb.env.u8.copyWithin(skb.tail >>> 0, from, from + grow)
  skb.dataLen -= grow
  skb.tail = (skb.tail + grow) as typeof skb.tail
  setFragOff(skb, 0, fragOff(skb, 0) + grow)
  setFragLen(skb, 0, fragLen(skb, 0) - grow)
  if (fragLen(skb, 0) === 0 && nrFrags(skb) > 0) dropFirstFrag(cpu, skb)
}

// Letting go.

/** Models `napi_gro_complete`: the headers are made to fit what was merged, and the packet goes up. */
function napiGroComplete(cpu: Cpu, napi: NapiStruct, skb: SkBuff): void {
  if (skb.cb3 === 1) setGsoSize(skb, 0)
  else {
    const offload = findOffload(napi.env, skb.protocol)
    if (offload === null || offload.groComplete(skb, 0) !== 0) {
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'napi_gro_complete')
      return
    }
  }
  groNormalOne(cpu, napi, skb, skb.cb3)
}

/** Models `gro_flush_oldest`: a full bucket gives up the flow it holds longest. */
function groFlushOldest(cpu: Cpu, napi: NapiStruct, bucket: number): void {
  const oldest = napi.groHash[bucket * MAX_GRO_SKBS + napi.groCount[bucket]! - 1]!
  groUnlist(napi, bucket, oldest)
  napiGroComplete(cpu, napi, napi.env.skbs.skbs[oldest]!)
}

/**
 * Models `napi_gro_flush` (net/core/gro.c): the oldest packet of each bucket first.
 *
 * @param old only packets that were not first held in the present jiffy.
 */
export function groFlush(cpu: Cpu, napi: NapiStruct, old: boolean): void {
  const now = jiffies(napi.env)
  for (let bucket = 0; napi.groBitmask >>> bucket !== 0; bucket++) {
    while (napi.groCount[bucket]! > 0) {
      const id = napi.groHash[bucket * MAX_GRO_SKBS + napi.groCount[bucket]! - 1]!
      const skb = napi.env.skbs.skbs[id]!
      if (old && skb.cb4 === now) break
      groUnlist(napi, bucket, id)
      napiGroComplete(cpu, napi, skb)
    }
  }
}

/** Models `flush_gro_hash`: the NAPI goes away; what it holds is freed. */
export function groFreeHeld(cpu: Cpu, napi: NapiStruct): void {
  for (let bucket = 0; bucket < GRO_HASH_BUCKETS; bucket++)
    while (napi.groCount[bucket]! > 0) {
      const id = napi.groHash[bucket * MAX_GRO_SKBS]!
      groUnlist(napi, bucket, id)
      kfreeSkb(cpu, napi.env.skbs.skbs[id]!, 'NOT_SPECIFIED', 'flush_gro_hash')
    }
}

function groEnlist(napi: NapiStruct, bucket: number, id: number): void {
  const base = bucket * MAX_GRO_SKBS
  const n = napi.groCount[bucket]!
  napi.groHash.copyWithin(base + 1, base, base + n)
  napi.groHash[base] = id
  napi.groCount[bucket] = n + 1
  napi.groBitmask |= 1 << bucket
}

function groUnlist(napi: NapiStruct, bucket: number, id: number): void {
  const base = bucket * MAX_GRO_SKBS
  const n = napi.groCount[bucket]!
  const at = napi.groHash.indexOf(id, base)
  napi.groHash.copyWithin(at, at + 1, base + n)
  napi.groCount[bucket] = n - 1
  if (n === 1) napi.groBitmask &= ~(1 << bucket)
}

const jiffies = (env: NetDevs): number => Math.floor(env.clock.nowNs / env.nsPerJiffy)
