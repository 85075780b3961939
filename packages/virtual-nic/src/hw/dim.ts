/**
 * Adaptive interrupt moderation: every 64 interrupts the last stretch is compared with the one before, and the
 * moderation goes on in the direction that helped, turns round, or rests when it has found the top.
 */

/** Models `NET_DIM_RX_EQE_PROFILES`: microseconds and frames of each step, from latency to throughput. */
export const NET_DIM_RX_PROFILES: readonly { readonly usecs: number; readonly frames: number }[] = [
  { usecs: 1, frames: 256 },
  { usecs: 8, frames: 256 },
  { usecs: 64, frames: 256 },
  { usecs: 128, frames: 256 },
  { usecs: 256, frames: 256 },
]
/** Models `DIM_NEVENTS`: interrupts between two decisions. */
export const DIM_NEVENTS = 64
/** Models `NET_DIM_DEF_PROFILE_EQE`. */
const DEFAULT_PROFILE = 1
const MAX_TIRED = NET_DIM_RX_PROFILES.length * 2
/** Models `IS_SIGNIFICANT_DIFF`: percent. */
const SIGNIFICANT = 10

const RIGHT = 0
const LEFT = 1
const ON_TOP = 2
const TIRED = 3

/** Models `struct dim`. Counters are events, packets and bytes since the start. */
export class Dim {
  profile = DEFAULT_PROFILE
  tuneState = ON_TOP
  stepsRight = 0
  stepsLeft = 0
  tired = 0
  measuring = false
  startEvents = 0
  startPackets = 0
  startBytes = 0
  startNs = 0
  // Per millisecond, of the stretch before.
  prevBpms = 0
  prevPpms = 0
  prevEpms = 0
}

/**
 * Models `net_dim` (lib/dim/net_dim.c), called when a poll completes.
 *
 * @returns true when `dim.profile` changed and is to be applied.
 */
export function netDim(dim: Dim, events: number, packets: number, bytes: number, nowNs: number): boolean {
  let changed = false
  if (dim.measuring) {
    if (events - dim.startEvents < DIM_NEVENTS) return false
    const us = Math.floor((nowNs - dim.startNs) / 1000)
    if (us <= 0) return false
    const rate = (n: number): number => Math.ceil((n * 1000) / us)
    changed = decide(dim, rate(bytes - dim.startBytes), rate(packets - dim.startPackets), rate(DIM_NEVENTS))
  }
  dim.startEvents = events
  dim.startPackets = packets
  dim.startBytes = bytes
  dim.startNs = nowNs
  dim.measuring = true
  return changed
}

/** Models `net_dim_decision`. */
function decide(dim: Dim, bpms: number, ppms: number, epms: number): boolean {
  const before = dim.tuneState
  const profile = dim.profile
  const better = compare(dim, bpms, ppms, epms)
  if (before === ON_TOP) {
    if (better !== 0) exitParking(dim)
  } else if (before === TIRED) {
    dim.tired--
    if (dim.tired === 0) exitParking(dim)
  } else {
    if (better <= 0) turn(dim)
    if (onTop(dim)) park(dim, ON_TOP)
    else {
      const stepped = step(dim)
      if (stepped === 'edge') park(dim, ON_TOP)
      else if (stepped === 'tired') park(dim, TIRED)
    }
  }
  if (before !== ON_TOP || dim.tuneState !== ON_TOP) {
    dim.prevBpms = bpms
    dim.prevPpms = ppms
    dim.prevEpms = epms
  }
  return dim.profile !== profile
}

const differs = (value: number, ref: number): boolean =>
  ref !== 0 && Math.floor((100 * Math.abs(value - ref)) / ref) > SIGNIFICANT

/** Models `net_dim_stats_compare`: more bytes, more packets, fewer interrupts. @returns 1 better, 0 the same, -1 worse. */
function compare(dim: Dim, bpms: number, ppms: number, epms: number): number {
  if (dim.prevBpms === 0) return bpms > 0 ? 1 : 0
  if (differs(bpms, dim.prevBpms)) return bpms > dim.prevBpms ? 1 : -1
  if (dim.prevPpms === 0) return ppms > 0 ? 1 : 0
  if (differs(ppms, dim.prevPpms)) return ppms > dim.prevPpms ? 1 : -1
  if (dim.prevEpms === 0) return 0
  if (differs(epms, dim.prevEpms)) return epms < dim.prevEpms ? 1 : -1
  return 0
}

function turn(dim: Dim): void {
  if (dim.tuneState === RIGHT) {
    dim.tuneState = LEFT
    dim.stepsLeft = 0
  } else {
    dim.tuneState = RIGHT
    dim.stepsRight = 0
  }
}

const onTop = (dim: Dim): boolean =>
  dim.tuneState === RIGHT ? dim.stepsLeft > 1 && dim.stepsRight === 1 : dim.stepsRight > 1 && dim.stepsLeft === 1

function park(dim: Dim, state: typeof ON_TOP | typeof TIRED): void {
  dim.stepsRight = 0
  dim.stepsLeft = 0
  if (state === ON_TOP) dim.tired = 0
  dim.tuneState = state
}

/** Models `net_dim_step`. */
function step(dim: Dim): 'stepped' | 'edge' | 'tired' {
  if (dim.tired === MAX_TIRED) return 'tired'
  if (dim.tuneState === RIGHT) {
    if (dim.profile === NET_DIM_RX_PROFILES.length - 1) return 'edge'
    dim.profile++
    dim.stepsRight++
  } else if (dim.tuneState === LEFT) {
    if (dim.profile === 0) return 'edge'
    dim.profile--
    dim.stepsLeft++
  }
  dim.tired++
  return 'stepped'
}

/** Models `net_dim_exit_parking`. */
function exitParking(dim: Dim): void {
  dim.tuneState = dim.profile !== 0 ? LEFT : RIGHT
  step(dim)
}
