/**
 * XDP in the page-pool driver: the program sees the page as the card wrote it.
 */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { pagePoolRecycleDirect } from '@netmem/page-pool'
import { napiBuildSkb, SKB_PP_RECYCLE, type SkBuff, setMetaLen, skbPut } from '@netmem/skbuff'
import { type NetDevice, RX_DROPPED, TX_DROPPED } from '../net-device.js'
import {
  MEM_TYPE_PAGE_POOL,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpBuff,
  xdpHeadLen,
  xdpPrepareBuff,
} from '../xdp.js'
import { type XdpFrame, xdpConvertBuffToFrame } from '../xdp-frame.js'
import { xdpDoFlush, xdpDoRedirect, xdpReturn } from '../xdp-redirect.js'
import { nicXmitFrame } from './nic-tx.js'
import type { PpNic, PpNicQueue } from './pp-nic.js'

/**
 * Runs the program on one frame. Takes the page unless it returns null with `pageLeft`.
 *
 * @returns the packet for the stack; null when the verdict was another and the page is accounted for.
 */
export function ppNicRunXdp(
  cpu: Cpu,
  dev: NetDevice,
  nic: PpNic,
  queue: PpNicQueue,
  pfn: Pfn,
  len: number,
): SkBuff | null {
  const env = nic.env
  const ring = queue.rx
  const xdp = env.softnet[cpu.id]!.xdp
  xdpPrepareBuff(xdp, (pfn << 12) as Addr, env.profile.page_size, ring.headroom, len)
  xdp.rxDev = dev.id
  xdp.rxQueueIndex = queue.index
  xdp.memType = MEM_TYPE_PAGE_POOL
  xdp.pool = ring.pool
  const act = nic.prog!.run(xdp)
  if (act === XDP_PASS) return passed(cpu, nic, pfn, xdp, dev)
  if (act === XDP_TX) {
    const frame = xdpConvertBuffToFrame(env.xdpFrames, xdp)
    if (frame === null) pagePoolRecycleDirect(cpu, ring.pool!, pfn)
    else {
      nic.xdpOut[0] = frame
      if (ppNicXdpXmit(cpu, dev, nic.xdpOut, 1) < 1) xdpReturn(env, cpu, frame, true)
    }
    return null
  }
  if (act === XDP_REDIRECT) {
    if (xdpDoRedirect(env, cpu, xdp) !== 0) {
      dev.stats[RX_DROPPED]!++
      pagePoolRecycleDirect(cpu, ring.pool!, pfn)
    } else nic.redirected = true
    return null
  }
  if (act !== XDP_DROP && act !== 0 && env.trace.warn !== null)
    env.trace.warn(
      'bpf_warn_invalid_xdp_action',
      `Illegal XDP return value ${act} on prog ${nic.prog!.name}, expect packet loss!`,
    )
  pagePoolRecycleDirect(cpu, ring.pool!, pfn)
  return null
}

function passed(cpu: Cpu, nic: PpNic, pfn: Pfn, xdp: XdpBuff, dev: NetDevice): SkBuff | null {
  const skb = napiBuildSkb(nic.env.skbs, cpu, (pfn << 12) as Addr, nic.env.profile.page_size)
  if (skb === null) {
    dev.stats[RX_DROPPED]!++
    pagePoolRecycleDirect(cpu, xdp.pool!, pfn)
    return null
  }
  skb.flags |= SKB_PP_RECYCLE
  skb.data = xdp.data
  skb.tail = xdp.data
  skbPut(skb, xdpHeadLen(xdp))
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
