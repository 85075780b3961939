/**
 * Generic XDP: a device whose driver knows nothing of XDP runs the program on a finished skb. The program
 * must find 256 bytes of headroom and its own copy of the bytes, which usually costs a new head.
 */
import type { Cpu } from '@netmem/base'
import {
  fragLen,
  kfreeSkb,
  nrFrags,
  pskbExpandHead,
  SKB_REDIRECTED,
  type SkBuff,
  setMetaLen,
  skbCloned,
  skbHeadlen,
  skbHeadroom,
  skbIsNonlinear,
  skbLinearize,
  skbPullUnchecked,
  skbPushUnchecked,
} from '@netmem/skbuff'
import { ETH_HLEN, ethTypeTrans } from './eth.js'
import type { NetDevs } from './net-devs.js'
import { skbPpCowData } from './skb-pp-cow.js'
import {
  MEM_TYPE_PAGE_SHARED,
  SHINFO_XDP_FRAGS_SIZE_WORD,
  XDP_DROP,
  XDP_PACKET_HEADROOM,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpBuff,
  type XdpProgram,
  xdpPrepareBuff,
} from './xdp.js'
import { genericXdpTx, xdpDoGenericRedirect } from './xdp-redirect.js'

/**
 * Models `do_xdp_generic` (net/core/dev.c). Takes the skb.
 *
 * @returns the packet that goes on (it may be another skb), or null: it was dropped, sent or redirected.
 */
export function doXdpGeneric(env: NetDevs, cpu: Cpu, prog: XdpProgram, packet: SkBuff): SkBuff | null {
  if ((packet.flags & SKB_REDIRECTED) !== 0) return packet
  const xdp = env.softnet[cpu.id]!.xdp
  const macLen = (packet.data - packet.head - packet.macHeader) | 0
  skbPushUnchecked(packet, macLen)
  const skb = checkForXdp(env, cpu, packet, prog)
  if (skb === null) {
    kfreeSkb(cpu, packet, 'NOT_SPECIFIED', 'do_xdp_generic')
    return null
  }
  skbPullUnchecked(skb, macLen)
  const act = runGenericXdp(env, skb, xdp, prog, macLen)
  if (act === XDP_PASS) return skb
  if (act === XDP_TX) genericXdpTx(env, cpu, skb)
  else if (act === XDP_REDIRECT) {
    if (xdpDoGenericRedirect(env, cpu, skb, xdp) !== 0) kfreeSkb(cpu, skb, 'XDP', 'do_xdp_generic')
  } else kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'do_xdp_generic')
  return null
}

/**
 * Models `netif_skb_check_for_xdp`: makes the packet one that a program may write to. `data` is at the MAC header.
 *
 * @returns the skb, another one in its place, or null: no memory, the old one is still the caller's.
 */
function checkForXdp(env: NetDevs, cpu: Cpu, skb: SkBuff, prog: XdpProgram): SkBuff | null {
  if (!skbCloned(skb) && !skbIsNonlinear(skb) && skbHeadroom(skb) >= XDP_PACKET_HEADROOM) return skb
  if (prog.hasFrags && env.systemPagePool !== null) {
    const copy = skbPpCowData(env, cpu, env.systemPagePool(cpu), skb, XDP_PACKET_HEADROOM)
    if (copy !== null) return copy
  }
  const hroom = XDP_PACKET_HEADROOM - skbHeadroom(skb)
  const troom = (skb.tail + skb.dataLen - skb.end) | 0
  // Expanding and linearizing both copy: one new head serves both.
  const pad = env.skbs.sizes.netSkbPad
  const nhead = hroom > 0 ? Math.ceil(hroom / pad) * pad : 0
  if (pskbExpandHead(cpu, skb, nhead, troom > 0 ? troom + 128 : 0, env.mem.gfp.GFP_ATOMIC) !== 0) return null
  return skbLinearize(cpu, skb) === 0 ? skb : null
}

/** Models `bpf_prog_run_generic_xdp` (net/core/dev.c). @returns the verdict; for TX and REDIRECT `data` is at the MAC header. */
function runGenericXdp(env: NetDevs, skb: SkBuff, xdp: XdpBuff, prog: XdpProgram, macLen: number): number {
  const dv = env.mem.dv
  const frameSz = ((skb.end - skb.head) | 0) + env.skbs.sizes.sharedInfoBytes
  xdpPrepareBuff(xdp, skb.head, frameSz, skbHeadroom(skb) - macLen, skbHeadlen(skb) + macLen)
  if (skbIsNonlinear(skb)) {
    env.mem.i32[(skb.end >>> 2) + SHINFO_XDP_FRAGS_SIZE_WORD] = skb.dataLen
    xdp.hasFrags = true
  }
  xdp.rxDev = skb.dev
  xdp.rxQueueIndex = skb.queueMapping === 0 ? 0 : skb.queueMapping - 1
  xdp.memType = MEM_TYPE_PAGE_SHARED
  xdp.pool = null
  const data = xdp.data
  const end = xdp.dataEnd
  const hi = dv.getUint16(data >>> 0)
  const lo = dv.getInt32((data + 2) >>> 0)
  const type = dv.getUint16((data + 12) >>> 0)
  const act = prog.run(xdp)
  const off = (xdp.data - data) | 0
  if (off !== 0) {
    if (off > 0) skbPullUnchecked(skb, off)
    else skbPushUnchecked(skb, -off)
    skb.macHeader += off
    skb.networkHeader = (skb.data - skb.head) | 0
  }
  const grown = (xdp.dataEnd - end) | 0
  if (grown !== 0) {
    skb.tail = (skb.tail + grown) as typeof skb.tail
    skb.len += grown
  }
  if (xdp.hasFrags) {
    let bytes = 0
    for (let i = 0; i < nrFrags(skb); i++) bytes += fragLen(skb, i)
    skb.len += bytes - skb.dataLen
    skb.dataLen = bytes
  }
  const at = xdp.data >>> 0
  if (dv.getUint16(at) !== hi || dv.getInt32(at + 2) !== lo || dv.getUint16(at + 12) !== type) {
    skbPushUnchecked(skb, ETH_HLEN)
    skb.pktType = 0
    ethTypeTrans(skb, env.devices[skb.dev]!)
  }
  if (act === XDP_TX || act === XDP_REDIRECT) skbPushUnchecked(skb, macLen)
  else if (act === XDP_PASS) {
    const meta = (xdp.data - xdp.dataMeta) | 0
    if (meta > 0) setMetaLen(skb, meta)
  } else if (act !== XDP_DROP && act !== 0 && env.trace.warn !== null)
    env.trace.warn(
      'bpf_warn_invalid_xdp_action',
      `Illegal XDP return value ${act} on prog ${prog.name}, expect packet loss!`,
    )
  return act
}
