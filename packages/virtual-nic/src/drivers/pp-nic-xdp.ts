/**
 * XDP in the page-pool driver: the program sees the page as the card wrote it.
 */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { pagePoolRecycleDirect } from '@netmem/page-pool'
import { napiBuildSkb, SKB_PP_RECYCLE, type SkBuff, setMetaLen, skbPut } from '@netmem/skbuff'
import { ETH_HLEN } from '../eth.js'
import { RXD_EOP, RXD_ERROR } from '../hw/nic-hw.js'
import { type NetDevice, RX_DROPPED, RX_ERRORS, TX_DROPPED } from '../net-device.js'
import {
  MEM_TYPE_PAGE_POOL,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpBuff,
  xdpDataHardEnd,
  xdpHeadLen,
  xdpPrepareBuff,
} from '../xdp.js'
import { xdpBuffAddFrag, xdpFragsSave, xdpUpdateSkbSharedInfo } from '../xdp-frags.js'
import { type XdpFrame, xdpConvertBuffToFrame, xdpReturnBuff } from '../xdp-frame.js'
import { xdpDoFlush, xdpDoRedirect, xdpReturn } from '../xdp-redirect.js'
import { nicXmitFrame } from './nic-tx.js'
import type { PpNic, PpNicQueue } from './pp-nic.js'

/** Points the CPU's view at the frame that is complete up to here. */
function viewOf(cpu: Cpu, dev: NetDevice, nic: PpNic, queue: PpNicQueue): XdpBuff {
  const { env } = nic
  const ring = queue.rx
  const xdp = env.softnet[cpu.id]!.xdp
  xdpPrepareBuff(xdp, (ring.xdpPage << 12) as Addr, env.profile.page_size, ring.headroom, ring.xdpLen)
  xdp.hasFrags = ring.xdpFrags
  xdp.fragSize = env.profile.page_size
  xdp.rxDev = dev.id
  xdp.rxQueueIndex = queue.index
  xdp.memType = MEM_TYPE_PAGE_POOL
  xdp.pool = ring.pool
  return xdp
}

/** Returns what has arrived of a frame that is not complete. */
export function ppNicDropPartialXdp(cpu: Cpu, nic: PpNic, queue: PpNicQueue): void {
  const ring = queue.rx
  if (ring.xdpPage === 0) return
  xdpReturnBuff(cpu, viewOf(cpu, queue.napi.dev!, nic, queue), false)
  ring.xdpPage = 0
  ring.xdpFrags = false
}

/**
 * Takes one buffer of a frame, and runs the program when it is the last.
 *
 * @returns the packet for the stack; null when there is more to come, or the verdict was another.
 */
export function ppNicRxXdp(
  cpu: Cpu,
  dev: NetDevice,
  nic: PpNic,
  queue: PpNicQueue,
  pfn: Pfn,
  len: number,
  status: number,
): SkBuff | null {
  const ring = queue.rx
  const end = (status & RXD_EOP) !== 0
  const first = ring.xdpPage === 0
  let bad = ring.partialBad
  if (!bad) {
    // Attaching saw to it that longer frames than one buffer only come when they exceed the MTU.
    bad = (status & RXD_ERROR) !== 0 || (first ? len < ETH_HLEN : false) || (!(end && first) && !nic.prog!.hasFrags)
    if (!bad && !first) {
      bad = !xdpBuffAddFrag(viewOf(cpu, dev, nic, queue), pfn, ring.headroom, len, nic.env.profile.page_size)
      ring.xdpFrags = true
    }
    if (bad) dev.stats[RX_ERRORS]!++
  }
  if (bad) {
    pagePoolRecycleDirect(cpu, ring.pool!, pfn)
    ppNicDropPartialXdp(cpu, nic, queue)
    ring.partialBad = !end
    return null
  }
  if (first) {
    ring.xdpPage = pfn
    ring.xdpLen = len
    ring.xdpFrags = false
  }
  if (!end) return null
  const xdp = viewOf(cpu, dev, nic, queue)
  ring.xdpPage = 0
  return runXdp(cpu, dev, nic, xdp)
}

/** Runs the program on a whole frame. Takes the frame. @returns the packet for the stack, or null. */
function runXdp(cpu: Cpu, dev: NetDevice, nic: PpNic, xdp: XdpBuff): SkBuff | null {
  const { env } = nic
  const act = nic.prog!.run(xdp)
  if (act === XDP_PASS) return passed(cpu, dev, nic, xdp)
  if (act === XDP_TX) {
    const frame = xdpConvertBuffToFrame(env.xdpFrames, xdp)
    if (frame === null) xdpReturnBuff(cpu, xdp, true)
    else {
      nic.xdpOut[0] = frame
      if (ppNicXdpXmit(cpu, dev, nic.xdpOut, 1) < 1) xdpReturn(env, cpu, frame, true)
    }
    return null
  }
  if (act === XDP_REDIRECT) {
    if (xdpDoRedirect(env, cpu, xdp) !== 0) {
      dev.stats[RX_DROPPED]!++
      xdpReturnBuff(cpu, xdp, true)
    } else nic.redirected = true
    return null
  }
  if (act !== XDP_DROP && act !== 0 && env.trace.warn !== null)
    env.trace.warn(
      'bpf_warn_invalid_xdp_action',
      `Illegal XDP return value ${act} on prog ${nic.prog!.name}, expect packet loss!`,
    )
  xdpReturnBuff(cpu, xdp, true)
  return null
}

/** Models `xdp_build_skb_from_buff`: the skb's head is the first page, whose shared info names the others. */
function passed(cpu: Cpu, dev: NetDevice, nic: PpNic, xdp: XdpBuff): SkBuff | null {
  const { env } = nic
  const { fragsInfo } = nic
  xdpFragsSave(fragsInfo, env.mem, xdpDataHardEnd(xdp) >>> 0, xdp.hasFrags)
  const skb = napiBuildSkb(env.skbs, cpu, xdp.dataHardStart, env.profile.page_size)
  if (skb === null) {
    dev.stats[RX_DROPPED]!++
    xdpReturnBuff(cpu, xdp, true)
    return null
  }
  skb.flags |= SKB_PP_RECYCLE
  skb.data = xdp.data
  skb.tail = xdp.data
  skbPut(skb, xdpHeadLen(xdp))
  xdpUpdateSkbSharedInfo(skb, fragsInfo)
  const meta = (xdp.data - xdp.dataMeta) | 0
  if (meta > 0) setMetaLen(skb, meta)
  return skb
}

/**
 * Models `ndo_xdp_xmit`: frames go out through the transmit ring of the caller's CPU.
 *
 * @returns how many of the first `n` were taken; the rest is still the caller's. Or -errno for none.
 */
export function ppNicXdpXmit(cpu: Cpu, dev: NetDevice, frames: XdpFrame[], n: number): number {
  const nic = dev.priv as PpNic
  if (!dev.running) return -ERRNO.ENETDOWN
  const ring = nic.queues[cpu.id % nic.queues.length]!.tx
  let sent = 0
  while (sent < n && nicXmitFrame(cpu, ring, frames[sent]!, 'pp_nic_xdp_xmit')) sent++
  if (sent > 0) nic.hw.doorbell(ring.index, ring.nextToUse)
  if (sent < n) dev.stats[TX_DROPPED]! += n - sent
  return sent
}

/** At the end of a poll: what was redirected leaves. */
export function ppNicXdpFlush(cpu: Cpu, nic: PpNic): void {
  if (!nic.redirected) return
  nic.redirected = false
  xdpDoFlush(nic.env, cpu)
}
