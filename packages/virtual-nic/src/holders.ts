/**
 * Queues, GRO and rings as holders of pages, for the owner report of page pools (`pagePoolHoldersReport`). Cold:
 * called only when somebody asks. What a driver holds it says itself (`dev.holders`).
 */
import { type HolderWalk, type Netmem, type PageHolder, pagePoolRegisterHolders } from '@netmem/page-pool'
import { type SkBuff, skbHolders, skbListHolders } from '@netmem/skbuff'
import type { TxRing } from './drivers/nic-tx.js'
import { GRO_HASH_BUCKETS, MAX_GRO_SKBS, type NapiStruct } from './napi-struct.js'
import type { NetDevs } from './net-devs.js'
import type { XdpFrame } from './xdp-frame.js'

type Visit = (netmem: Netmem, holder: PageHolder) => void

const deviceLayer =
  (env: NetDevs): HolderWalk =>
  (visit) => {
    const list = (first: number, where: string): void => skbListHolders(env.skbs, first, where, visit)
    for (const sd of env.softnet) {
      list(sd.inputPktQueue.first, `CPU ${sd.cpu.id}, backlog`)
      list(sd.processQueue.first, `CPU ${sd.cpu.id}, backlog being processed`)
      for (const { dev, frames } of sd.xdpFlush.devs) xdpFrameHolders(env, frames, `redirect to ${dev.name}`, visit)
    }
    for (const napi of env.napiById) if (napi !== null) napiHolders(env, napi, visit)
    for (const dev of env.devices) {
      if (dev === null) continue
      for (const { qdisc } of dev.txq) {
        if (qdisc === null) continue
        for (const band of qdisc.bands) list(band.first, `${dev.name}: qdisc`)
        list(qdisc.requeued.first, `${dev.name}: qdisc, refused by the driver`)
      }
      dev.holders?.(visit)
    }
  }

function napiHolders(env: NetDevs, napi: NapiStruct, visit: Visit): void {
  const name = `NAPI ${napi.napiId}${napi.dev === null ? '' : ` of ${napi.dev.name}`}`
  skbListHolders(env.skbs, napi.rxFirst, `${name}: batch on its way up`, visit)
  for (let bucket = 0; bucket < GRO_HASH_BUCKETS; bucket++)
    for (let i = 0; i < napi.groCount[bucket]!; i++)
      skbHolders(env.skbs.skbs[napi.groHash[bucket * MAX_GRO_SKBS + i]!]!, `${name}: GRO`, visit)
}

/** Frames that programs sent on: one page each, and those of their fragments. */
export function xdpFrameHolders(env: NetDevs, frames: readonly XdpFrame[], where: string, visit: Visit): void {
  const { mem } = env
  frames.forEach((frame, i) => {
    const holder: PageHolder = { kind: 'xdp_frame', name: String(i), where }
    visit(frame.data >>> 12, holder)
    if (!frame.hasFrags) return
    const end = (frame.data - frame.headroom - env.xdpFrameBytes + frame.frameSz - env.skbs.sizes.sharedInfoBytes) >>> 0
    for (let f = 0; f < mem.u8[end + 2]!; f++) visit(mem.i32[(end >>> 2) + 12 + f * 4]!, holder)
  })
}

/** Packets and frames that a card has not sent yet, or whose completion nobody has looked at. */
export function txRingHolders(env: NetDevs, ring: TxRing, where: string, visit: Visit): void {
  for (let at = ring.nextToClean; at !== ring.nextToUse; at = (at + 1) & (ring.count - 1)) {
    const id = ring.skb[at]!
    const frame = ring.frames[at] ?? null
    if (id > 0) skbHolders(env.skbs.skbs[id]!, `${where}, descriptor ${at}`, visit)
    else if (frame !== null) xdpFrameHolders(env, [frame], `${where}, descriptor ${at}`, visit)
  }
}

/** Packets and frames in a ring of a driver of software. */
export function ptrRingHolders(env: NetDevs, ring: readonly (SkBuff | XdpFrame)[], where: string, visit: Visit): void {
  for (const entry of ring) {
    if ('truesize' in entry) skbHolders(entry, where, visit)
    else xdpFrameHolders(env, [entry], where, visit)
  }
}

/** Names the device layer to the machine's page pools. */
export const netDevRegisterHolders = (env: NetDevs): void => {
  pagePoolRegisterHolders(env.pagePools, deviceLayer(env))
}
