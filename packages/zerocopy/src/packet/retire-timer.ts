/**
 * When a V3 block that does not fill up is given to the user all the same. 6.18 has a high-resolution timer that
 * ticks steadily from the ring's set-up on; 6.1 a jiffy timer that starts anew with every block.
 */
import type { KbdqCore } from './packet-ring.js'
import type { PacketEnv, PacketSock } from './packet-sock.js'

const NS_PER_MS = 1_000_000
// The timer wheel (kernel/time/timer.c): 64 slots a level, each level eight times coarser.
const LVL_CLK_SHIFT = 3
const LVL_SIZE = 64
const LVL_DEPTH = 9

/** Starts the timer of a ring that has just been set up. */
export function startRetireTimer(po: PacketSock, pkc: KbdqCore): void {
  const { clock, retireTimer, socks } = po.env
  if (!socks.profile.features.packetRetireHrtimer) return
  pkc.timer = clock.schedule(clock.nowNs + pkc.retireBlkTov * NS_PER_MS, retireTimer, po.sk.id)
}

/** Models `_prb_refresh_rx_retire_blk_timer` of kernels with a timer wheel; nothing on the others. */
export function refreshRetireTimer(po: PacketSock, pkc: KbdqCore): void {
  const { env } = po
  if (env.socks.profile.features.packetRetireHrtimer) return
  env.clock.cancel(pkc.timer)
  pkc.timer = env.clock.schedule(wheelExpiryNs(env, pkc.retireBlkTov), env.retireTimer, po.sk.id)
  pkc.lastKactiveBlkNum = pkc.kactiveBlkNum
}

/** The tick is over: the high-resolution timer goes on in step, the other one as `again` says. */
export function rearmRetireTimer(po: PacketSock, pkc: KbdqCore, again: boolean): void {
  if (po.env.socks.profile.features.packetRetireHrtimer) startRetireTimer(po, pkc)
  else if (again) refreshRetireTimer(po, pkc)
}

/** Models `prb_shutdown_retire_blk_timer`. */
export function stopRetireTimer(po: PacketSock, pkc: KbdqCore): void {
  po.env.clock.cancel(pkc.timer)
  pkc.timer = 0
}

/** Models `mod_timer(jiffies + msecs_to_jiffies(ms))` and `calc_wheel_index`: never early, coarser the further off. */
function wheelExpiryNs(env: PacketEnv, ms: number): number {
  const { jiffyNs } = env.socks
  const now = Math.floor(env.clock.nowNs / jiffyNs)
  const delta = Math.ceil((ms * NS_PER_MS) / jiffyNs)
  let level = 0
  while (level < LVL_DEPTH - 1 && delta >= (LVL_SIZE - 1) * 2 ** (level * LVL_CLK_SHIFT)) level++
  const unit = 2 ** (level * LVL_CLK_SHIFT)
  return (Math.floor((now + delta) / unit) + 1) * unit * jiffyNs
}
