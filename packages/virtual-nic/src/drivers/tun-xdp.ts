/** Native XDP on a TAP: the program sees the bytes on the task's page fragment, before there is an skb. */
import type { Addr, Cpu } from '@netmem/base'
import { putPage } from '@netmem/memory'
import type { PageFrag } from '@netmem/page-frag'
import { RX_BYTES, RX_DROPPED, RX_PACKETS } from '../net-device.js'
import { localBhDisable, localBhEnable } from '../softirq.js'
import {
  MEM_TYPE_PAGE_SHARED,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  type XdpBuff,
  xdpPrepareBuff,
} from '../xdp.js'
import { type XdpFrame, xdpConvertBuffToFrame } from '../xdp-frame.js'
import { xdpDoFlush, xdpDoRedirect, xdpReturn } from '../xdp-redirect.js'
import type { TunStruct } from './tun-file.js'

/**
 * Models the XDP part of `tun_build_skb` and `tun_xdp_act` (drivers/net/tun.c).
 *
 * @returns the frame as the program left it when it goes up; null when it was dropped, sent or redirected.
 */
export function tunBuildSkbXdp(
  cpu: Cpu,
  tun: TunStruct,
  frag: PageFrag,
  buf: Addr,
  bytes: number,
  pad: number,
  len: number,
): XdpBuff | null {
  const { dev } = tun
  const { env } = dev
  localBhDisable(cpu)
  const xdp = env.softnet[cpu.id]!.xdp
  xdpPrepareBuff(xdp, buf, bytes, pad, len)
  xdp.rxDev = dev.id
  xdp.rxQueueIndex = 0
  xdp.memType = MEM_TYPE_PAGE_SHARED
  xdp.pool = null
  const act = tun.prog!.run(xdp)
  let passed: XdpBuff | null = null
  if (act === XDP_PASS) passed = xdp
  else if (act === XDP_TX || act === XDP_REDIRECT) {
    // The frame keeps a reference of its own on the page.
    env.mem.pages.refcount[frag.page]!++
    frag.offset += bytes
    const ok = act === XDP_REDIRECT ? xdpDoRedirect(env, cpu, xdp) === 0 : tunXdpTx(cpu, tun, xdp)
    if (!ok) {
      putPage(env.mem, cpu, frag.page, 'tun_build_skb')
      dev.stats[RX_DROPPED]!++
    } else {
      dev.stats[RX_PACKETS]!++
      dev.stats[RX_BYTES]! += len
    }
    xdpDoFlush(env, cpu)
  } else {
    if (act !== XDP_DROP && act !== XDP_ABORTED && env.trace.warn !== null)
      env.trace.warn(
        'bpf_warn_invalid_xdp_action',
        `Illegal XDP return value ${act} on prog ${tun.prog!.name}, expect packet loss!`,
      )
    dev.stats[RX_DROPPED]!++
  }
  localBhEnable(env, cpu)
  return passed
}

/** Models `tun_xdp_tx`. */
function tunXdpTx(cpu: Cpu, tun: TunStruct, xdp: XdpBuff): boolean {
  const { dev } = tun
  const frame = xdpConvertBuffToFrame(dev.env.xdpFrames, xdp)
  if (frame === null) return false
  if (tunXdpXmit(tun, [frame], 1, cpu) === 1) return true
  dev.env.xdpFrames.free.push(frame)
  dev.env.xdpFrames.live--
  return false
}

/** Models `tun_xdp_xmit`: frames wait in a queue's ring beside packets. @returns how many fitted. */
export function tunXdpXmit(tun: TunStruct, frames: XdpFrame[], n: number, cpu: Cpu): number {
  if (tun.tfiles.length === 0) return -6
  const tfile = tun.tfiles[cpu.id % tun.tfiles.length]!
  let sent = 0
  while (sent < n && tfile.txRing.length - tfile.txHead < tun.dev.txQueueLen) tfile.txRing.push(frames[sent++]!)
  return sent
}

/** A frame that waited in a ring is freed. */
export const tunFreeFrame = (tun: TunStruct, cpu: Cpu, frame: XdpFrame): void =>
  xdpReturn(tun.dev.env, cpu, frame, false)
