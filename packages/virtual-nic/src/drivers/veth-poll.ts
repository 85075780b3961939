/**
 * The receiving half of a veth with a NAPI: takes packets and frames from the ring, shows them to the XDP
 * program, and passes up what the program leaves.
 */
import type { Addr, Cpu } from '@netmem/base'
import { kmemCacheAllocObjBulk } from '@netmem/memory'
import {
  buildSkbAround,
  consumeSkb,
  fragPfn,
  kfreeSkb,
  napiSkbCacheGetBulk,
  nrFrags,
  SkBuff,
  setMetaLen,
  skbIsNonlinear,
  skbPut,
  skbReserve,
  skbShared,
  skbUnclone,
} from '@netmem/skbuff'
import { ethTypeTrans } from '../eth.js'
import { napiGroReceive } from '../gro.js'
import { napiCompleteDone } from '../napi.js'
import { type NapiStruct, napiSchedulePrep, napiScheduleUnchecked } from '../napi-struct.js'
import type { NetDevs } from '../net-devs.js'
import { netifTxWakeQueue } from '../netdev-queue.js'
import { netifReceiveSkb } from '../receive.js'
import { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, type XdpBuff } from '../xdp.js'
import { XdpFragsInfo, xdpFragsSave, xdpFrameHardEnd, xdpUpdateSkbSharedInfo } from '../xdp-frags.js'
import {
  releaseXdpFrame,
  type XdpFrame,
  xdpConvertBuffToFrame,
  xdpConvertFrameToBuff,
  xdpGetFrameLen,
  xdpReturnBuff,
} from '../xdp-frame.js'
import { xdpDoFlush, xdpDoRedirect, xdpReturn } from '../xdp-redirect.js'
import { VETH_XDP_TX_BULK_SIZE, type VethPriv, type VethRq } from './veth-queue.js'
import { vethConvertSkbToXdpBuff } from './veth-xdp-buff.js'

/** Models `__veth_xdp_flush`: the receiver's NAPI is woken, once until it has looked. */
export function vethXdpFlushRing(cpu: Cpu, rq: VethRq): void {
  if (rq.rxNotifyMasked || rq.napi === null || !napiSchedulePrep(rq.napi)) return
  rq.rxNotifyMasked = true
  napiScheduleUnchecked(cpu, rq.napi)
}

/** Models `veth_poll` and `veth_xdp_rcv` (drivers/net/veth.c). */
export function vethPoll(cpu: Cpu, napi: NapiStruct, budget: number): number {
  const rq = napi.priv as VethRq
  const { env } = rq.dev
  const redirectedBefore = rq.xdpRedirect
  const sentBefore = rq.xdpTx
  let done = 0
  while (done < budget && rq.ringHead < rq.ring.length) {
    const entry = rq.ring[rq.ringHead++]!
    if (rq.ringHead === rq.ring.length) {
      rq.ring.length = 0
      rq.ringHead = 0
    }
    if (entry instanceof SkBuff) receiveSkb(env, cpu, rq, entry)
    else receiveFrame(env, cpu, rq, entry)
    done++
  }
  if (rq.passed.length > 0) receiveFrames(env, cpu, rq)
  rq.xdpPackets += done
  const peer = (rq.dev.priv as VethPriv).peer
  const txq = peer?.txq[rq.index]
  if (txq !== undefined) netifTxWakeQueue(cpu, txq)
  if (rq.xdpRedirect !== redirectedBefore) xdpDoFlush(env, cpu)
  if (rq.xdpTx !== sentBefore) vethXdpFlush(cpu, rq)
  if (done < budget && napiCompleteDone(cpu, napi, done)) {
    rq.rxNotifyMasked = false
    if (rq.ringHead < rq.ring.length && napiSchedulePrep(napi)) {
      rq.rxNotifyMasked = true
      napiScheduleUnchecked(cpu, napi)
    }
  }
  return done
}

function receiveSkb(env: NetDevs, cpu: Cpu, rq: VethRq, packet: SkBuff): void {
  rq.xdpBytes += packet.len
  const skb = vethXdpRcvSkb(env, cpu, rq, packet)
  if (skb === null) return
  // GRO writes to headers: it must be the only holder.
  if (skbShared(skb) || skbUnclone(cpu, skb, env.mem.gfp.GFP_ATOMIC) !== 0) netifReceiveSkb(env, cpu, skb)
  else napiGroReceive(cpu, rq.napi!, skb)
}

/** Models `veth_xdp_rcv_skb`. Takes the skb. @returns the packet for the stack, or null. */
function vethXdpRcvSkb(env: NetDevs, cpu: Cpu, rq: VethRq, packet: SkBuff): SkBuff | null {
  const prog = (rq.dev.priv as VethPriv).prog
  if (prog === null) return packet
  const macLen = (packet.data - packet.head - packet.macHeader) | 0
  packet.data = (packet.data - macLen) as Addr
  packet.len += macLen
  const xdp = env.softnet[cpu.id]!.xdp
  const skb = vethConvertSkbToXdpBuff(env, cpu, rq, packet, xdp)
  if (skb === null) {
    rq.rxDrops++
    return null
  }
  const data = xdp.data
  const end = xdp.dataEnd
  const act = prog.run(xdp)
  if (act === XDP_PASS) return passed(skb, rq, xdp, data, end)
  if (act === XDP_TX || act === XDP_REDIRECT) {
    vethXdpGet(env, xdp, skb)
    consumeSkb(cpu, skb, 'veth_xdp_rcv_skb')
    const ok = act === XDP_TX ? vethXdpTx(cpu, rq, xdp) : xdpDoRedirect(env, cpu, xdp) === 0
    if (!ok) {
      rq.rxDrops++
      xdpReturnBuff(cpu, xdp, false)
    } else if (act === XDP_TX) rq.xdpTx++
    else rq.xdpRedirect++
    return null
  }
  if (act !== XDP_DROP && act !== XDP_ABORTED) env.trace.warn?.('bpf_warn_invalid_xdp_action', illegal(act, prog.name))
  rq.xdpDrops++
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'veth_xdp_rcv_skb')
  return null
}

const illegal = (act: number, name: string): string =>
  `Illegal XDP return value ${act} on prog ${name}, expect packet loss!`

/** What the program moved, the skb follows. */
function passed(skb: SkBuff, rq: VethRq, xdp: XdpBuff, data: Addr, end: Addr): SkBuff {
  const { mem } = rq.dev.env
  const off = (data - xdp.data) | 0
  skb.data = xdp.data
  skb.len += off
  skb.macHeader = (skb.data - skb.head) | 0
  const grown = (xdp.dataEnd - end) | 0
  skb.tail = (skb.tail + grown) as Addr
  skb.len += grown
  if (skbIsNonlinear(skb) || xdp.hasFrags) {
    const bytes = xdp.hasFrags ? mem.i32[(skb.end >>> 2) + 10]! : 0
    skb.len += bytes - skb.dataLen
    skb.dataLen = bytes
  }
  ethTypeTrans(skb, rq.dev)
  const meta = (xdp.data - xdp.dataMeta) | 0
  if (meta > 0) setMetaLen(skb, meta)
  return skb
}

/** Models `veth_xdp_get`: the pages outlive the skb. */
function vethXdpGet(env: NetDevs, xdp: XdpBuff, skb: SkBuff): void {
  const { refcount, head } = env.mem.pages
  refcount[head[xdp.data >>> 12]!]!++
  if (xdp.hasFrags) for (let i = 0; i < nrFrags(skb); i++) refcount[head[fragPfn(skb, i)]!]!++
}

/** Models `veth_xdp_tx`: frames go back in bulks. @returns false without room for a frame's descriptor. */
function vethXdpTx(cpu: Cpu, rq: VethRq, xdp: XdpBuff): boolean {
  const frame = xdpConvertBuffToFrame(rq.dev.env.xdpFrames, xdp)
  if (frame === null) return false
  if (rq.txBulk.length === VETH_XDP_TX_BULK_SIZE) vethXdpFlushBq(cpu, rq)
  rq.txBulk.push(frame)
  return true
}

/** Models `veth_xdp_flush_bq`: what the peer does not take is returned and counted. */
function vethXdpFlushBq(cpu: Cpu, rq: VethRq): void {
  const n = rq.txBulk.length
  if (n === 0) return
  const { env } = rq.dev
  // The driver's own operation, reached through the device as it would be from outside.
  const sent = Math.max(0, (rq.dev.priv as VethPriv).xmitBack(cpu, rq.dev, rq.txBulk, n))
  for (let i = sent; i < n; i++) xdpReturn(env, cpu, rq.txBulk[i]!, false)
  rq.xdpTxErr += n - sent
  rq.txBulk.length = 0
}

/** Models `veth_xdp_flush`: sends the bulk and wakes the peer. */
function vethXdpFlush(cpu: Cpu, rq: VethRq): void {
  vethXdpFlushBq(cpu, rq)
  const peer = (rq.dev.priv as VethPriv).peer
  if (peer === null) return
  const rcv = (peer.priv as VethPriv).rq
  vethXdpFlushRing(cpu, rcv[cpu.id % rcv.length]!)
}

/** Models `veth_xdp_rcv_one`: a frame that came as a frame. Takes it. */
function receiveFrame(env: NetDevs, cpu: Cpu, rq: VethRq, frame: XdpFrame): void {
  rq.xdpBytes += xdpGetFrameLen(env.mem, frame, env.xdpFrameBytes, env.skbs.sizes.sharedInfoBytes)
  const prog = (rq.dev.priv as VethPriv).prog
  if (prog === null) {
    rq.passed.push(frame)
    return
  }
  const xdp = env.softnet[cpu.id]!.xdp
  xdpConvertFrameToBuff(frame, xdp)
  xdp.rxDev = rq.dev.id
  xdp.rxQueueIndex = rq.index
  const act = prog.run(xdp)
  if (act === XDP_PASS) {
    frame.data = xdp.data
    frame.len = (xdp.dataEnd - xdp.data) | 0
    frame.headroom = (xdp.data - xdp.dataHardStart - env.xdpFrameBytes) | 0
    frame.hasFrags = xdp.hasFrags
    rq.passed.push(frame)
    return
  }
  if (act === XDP_TX || act === XDP_REDIRECT) {
    const ok = act === XDP_TX ? vethXdpTx(cpu, rq, xdp) : xdpDoRedirect(env, cpu, xdp) === 0
    if (ok) {
      releaseXdpFrame(env.xdpFrames, frame)
      if (act === XDP_TX) rq.xdpTx++
      else rq.xdpRedirect++
      return
    }
    rq.rxDrops++
  } else {
    if (act !== XDP_DROP && act !== XDP_ABORTED)
      env.trace.warn?.('bpf_warn_invalid_xdp_action', illegal(act, prog.name))
    rq.xdpDrops++
  }
  xdpReturn(env, cpu, frame, false)
}

/** Models `veth_xdp_rcv_bulk_skb` and `__xdp_build_skb_from_frame`: heads for all of them are taken at once. */
function receiveFrames(env: NetDevs, cpu: Cpu, rq: VethRq): void {
  const n = rq.passed.length
  const heads: SkBuff[] = []
  const frags = new XdpFragsInfo()
  const got = env.profile.features.vethNapiHeads
    ? napiSkbCacheGetBulk(env.skbs, cpu, heads, n)
    : headsFromSlab(env, cpu, heads, n)
  for (let i = 0; i < n; i++) {
    const frame = rq.passed[i]!
    if (i >= got) {
      rq.rxDrops++
      xdpReturn(env, cpu, frame, false)
      continue
    }
    const hardStart = (frame.data - frame.headroom - env.xdpFrameBytes) as Addr
    xdpFragsSave(
      frags,
      env.mem,
      xdpFrameHardEnd(frame, env.xdpFrameBytes, env.skbs.sizes.sharedInfoBytes),
      frame.hasFrags,
    )
    // What a frame remembers of its fragments' cost is not looked at here.
    frags.truesize = frags.nr * frame.frameSz
    const skb = buildSkbAround(cpu, heads[i]!, hardStart, frame.frameSz)
    skbReserve(skb, frame.headroom + env.xdpFrameBytes)
    skbPut(skb, frame.len)
    xdpUpdateSkbSharedInfo(skb, frags)
    if (frame.metasize > 0) setMetaLen(skb, frame.metasize)
    if (frame.memType === 2) skb.ppRecycle = true
    ethTypeTrans(skb, rq.dev)
    releaseXdpFrame(env.xdpFrames, frame)
    napiGroReceive(cpu, rq.napi!, skb)
  }
  rq.passed.length = 0
}

/** Models `xdp_alloc_skb_bulk`: all or none, straight from the slab. */
function headsFromSlab(env: NetDevs, cpu: Cpu, out: SkBuff[], n: number): number {
  const { skbs } = env
  const objs = new Int32Array(n)
  const got = kmemCacheAllocObjBulk(skbs.skbuffCache, cpu, skbs.gfpAtomic, n, objs, 0, 'xdp_alloc_skb_bulk')
  for (let i = 0; i < got; i++) out.push(skbs.headBodies[objs[i]!]!)
  return got
}
