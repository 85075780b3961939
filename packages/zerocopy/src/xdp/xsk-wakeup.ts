/** Who sleeps: the flag in a ring that tells the user to make a system call. */
import { XDP_RING_NEED_WAKEUP, XDP_WAKEUP_RX, XDP_WAKEUP_TX } from './uapi.js'
import type { XskBuffPool } from './xsk-buff-pool.js'
import type { XskQueue } from './xsk-queue.js'

function setFlag(q: XskQueue, on: boolean): void {
  const flags = q.i32[q.flagsWord]!
  q.i32[q.flagsWord] = on ? flags | XDP_RING_NEED_WAKEUP : flags & ~XDP_RING_NEED_WAKEUP
}

/** Models `xsk_set_rx_need_wakeup` and `xsk_clear_rx_need_wakeup` (net/xdp/xsk.c). */
export function xskSetRxNeedWakeup(pool: XskBuffPool, on: boolean): void {
  setFlag(pool.fq, on)
  pool.cachedNeedWakeup = on ? pool.cachedNeedWakeup | XDP_WAKEUP_RX : pool.cachedNeedWakeup & ~XDP_WAKEUP_RX
}

/** Models `xsk_set_tx_need_wakeup` and `xsk_clear_tx_need_wakeup`. */
export function xskSetTxNeedWakeup(pool: XskBuffPool, on: boolean): void {
  for (const xs of pool.xskTxList) setFlag(xs.tx!, on)
  pool.cachedNeedWakeup = on ? pool.cachedNeedWakeup | XDP_WAKEUP_TX : pool.cachedNeedWakeup & ~XDP_WAKEUP_TX
}

/** A new tx ring sleeps until it is woken for the first time. */
export const xskTxRingSleeps = (q: XskQueue): void => setFlag(q, true)
