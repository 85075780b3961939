/**
 * Redirecting: to another device in bulks, or to an AF_XDP socket. What a poll redirected leaves for good when
 * the poll ends (`xdpDoFlush`).
 */
import { type Cpu, ERRNO } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { consumeSkb, kfreeSkb } from '@netmem/skbuff'
import { devHardStartXmit, devXmitComplete } from './hard-start-xmit.js'
import { TX_DROPPED } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { netifXmitStopped } from './netdev-queue.js'
import { type XdpBuff, xdpGetBuffLen } from './xdp.js'
import { type XdpFrame, xdpConvertBuffToFrame, xdpReturnBuff, xdpReturnFrame } from './xdp-frame.js'
import { DEV_MAP_BULK_SIZE, XdpDevBulkQueue } from './xdp-redirect-lists.js'
import { netdevCorePickTx } from './xmit.js'

/**
 * Models `xdp_do_redirect` (net/core/filter.c): native mode. On success the buffer is gone; on failure it is
 * still the caller's.
 *
 * @returns 0 or -errno.
 */
export function xdpDoRedirect(env: NetDevs, cpu: Cpu, xdp: XdpBuff): number {
  const target = xdp.target
  if (target === null) return -ERRNO.EINVAL
  if (xdp.hasFrags && !env.profile.features.xdpRedirectFrags) return -ERRNO.ENOTSUP
  const lists = env.softnet[cpu.id]!.xdpFlush
  if (target.xsk !== null) {
    const rc = target.xsk.rcv(cpu, xdp)
    if (rc < 0) return rc
    if (rc === 0) xdpReturnBuff(cpu, xdp, false)
    if (!lists.xsks.includes(target.xsk)) lists.xsks.push(target.xsk)
    return 0
  }
  const dev = target.dev
  if (dev === null || dev.ops.xdpXmit === undefined) return -ERRNO.ENOTSUP
  if (xdp.hasFrags && dev.ops.xdpXmitSg !== true) return -ERRNO.ENOTSUP
  // Models xdp_ok_fwd_dev.
  if (!dev.running) return -ERRNO.ENETDOWN
  if (xdpGetBuffLen(xdp) > dev.mtu + dev.hardHeaderLen + 4) return -ERRNO.EMSGSIZE
  const frame = xdpConvertBuffToFrame(env.xdpFrames, xdp)
  if (frame === null) return -ERRNO.EOVERFLOW
  let bulk = lists.devs.find((q) => q.dev === dev)
  if (bulk === undefined) {
    bulk = new XdpDevBulkQueue(dev)
    lists.devs.push(bulk)
  }
  if (bulk.frames.length === DEV_MAP_BULK_SIZE) bqXmitAll(env, cpu, bulk)
  bulk.frames.push(frame)
  return 0
}

/** Models `bq_xmit_all`: what the device does not take is returned. */
function bqXmitAll(env: NetDevs, cpu: Cpu, bulk: XdpDevBulkQueue): void {
  const n = bulk.frames.length
  if (n === 0) return
  const sent = bulk.dev.ops.xdpXmit!(cpu, bulk.dev, bulk.frames, n, true)
  for (let i = Math.max(0, sent); i < n; i++) xdpReturn(env, cpu, bulk.frames[i]!, false)
  bulk.frames.length = 0
}

/** Models `xdp_do_flush`: at the end of a poll. */
export function xdpDoFlush(env: NetDevs, cpu: Cpu): void {
  const lists = env.softnet[cpu.id]!.xdpFlush
  for (const bulk of lists.devs) bqXmitAll(env, cpu, bulk)
  for (const xsk of lists.xsks) xsk.flush(cpu)
  lists.xsks.length = 0
}

/** Returns a frame with the machine's sizes filled in. */
export const xdpReturn = (env: NetDevs, cpu: Cpu, frame: XdpFrame, direct: boolean): void =>
  xdpReturnFrame(env.mem, cpu, env.xdpFrames, frame, env.xdpFrameBytes, env.skbs.sizes.sharedInfoBytes, direct)

/**
 * Models `xdp_do_generic_redirect` (net/core/filter.c): the frame is an skb, its `data` at the MAC header.
 *
 * @returns 0 with the skb taken, or -errno with it still the caller's.
 */
export function xdpDoGenericRedirect(env: NetDevs, cpu: Cpu, skb: SkBuff, xdp: XdpBuff): number {
  const target = xdp.target
  if (target === null) return -ERRNO.EINVAL
  if (target.xsk !== null) {
    const rc = target.xsk.genericRcv(cpu, xdp)
    if (rc < 0) return rc
    consumeSkb(cpu, skb, 'xdp_do_generic_redirect')
    return 0
  }
  const dev = target.dev
  if (dev === null) return -ERRNO.EINVAL
  if (!dev.running) return -ERRNO.ENETDOWN
  if (skb.len > dev.mtu + dev.hardHeaderLen + 4) return -ERRNO.EMSGSIZE
  skb.dev = dev.id
  genericXdpTx(env, cpu, skb)
  return 0
}

/** Models `generic_xdp_tx` (net/core/dev.c): out of `skb.dev`, past its qdisc. Takes the skb. */
export function genericXdpTx(env: NetDevs, cpu: Cpu, skb: SkBuff): void {
  const dev = env.devices[skb.dev]!
  const txq = netdevCorePickTx(env, dev, skb)
  if (!netifXmitStopped(txq)) {
    const left = devHardStartXmit(env, cpu, skb, dev, txq)
    if (left === null && devXmitComplete(env.xmitRc)) return
  }
  dev.stats[TX_DROPPED]!++
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'generic_xdp_tx')
}
