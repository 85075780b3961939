/**
 * Byte queue limits: how many bytes may sit in a transmit ring before the queue above must wait. The limit
 * follows the hardware: it grows when the ring ran dry while packets were waiting, and shrinks when some of
 * what was queued turned out never to be needed.
 */
import { assert } from '@netmem/base'

/** Models `struct dql` (include/linux/dynamic_queue_limits.h). All in bytes, free-running counters exact to 2^53. */
export class Dql {
  numQueued = 0
  adjLimit = 0
  lastObjCnt = 0
  limit = 0
  numCompleted = 0
  prevOvlimit = 0
  prevNumQueued = 0
  prevLastObjCnt = 0
  lowestSlack = Number.MAX_SAFE_INTEGER
  slackStartNs = 0
  maxLimit = DQL_MAX_LIMIT
  minLimit = 0
  /** How long the slack is watched before the limit shrinks: one second. */
  slackHoldNs = 1_000_000_000
}

const DQL_MAX_OBJECT = (0xffffffff >>> 0) / 16
/** Models `DQL_MAX_LIMIT`. */
export const DQL_MAX_LIMIT = Math.floor((0xffffffff >>> 0) / 2 - DQL_MAX_OBJECT)

const posdiff = (a: number, b: number): number => (a > b ? a - b : 0)

/** Models `dql_queued`. @param count bytes handed to the hardware. */
export function dqlQueued(dql: Dql, count: number): void {
  dql.lastObjCnt = count
  dql.numQueued += count
}

/** Models `dql_avail`. @returns bytes that still fit; negative when the last packet overshot. */
export const dqlAvail = (dql: Dql): number => dql.adjLimit - dql.numQueued

/**
 * Models `dql_completed` (lib/dynamic_queue_limits.c).
 *
 * @param count bytes the hardware finished. @param nowNs virtual time.
 */
export function dqlCompleted(dql: Dql, count: number, nowNs: number): void {
  const numQueued = dql.numQueued
  assert(count <= numQueued - dql.numCompleted, 'dql_completed: more bytes completed than queued')
  const completed = dql.numCompleted + count
  let limit = dql.limit
  let ovlimit = posdiff(numQueued - dql.numCompleted, limit)
  const inprogress = numQueued - completed
  const prevInprogress = dql.prevNumQueued - dql.numCompleted
  const allPrevCompleted = completed >= dql.prevNumQueued

  if ((ovlimit !== 0 && inprogress === 0) || (dql.prevOvlimit !== 0 && allPrevCompleted)) {
    // Starved: the ring ran dry although the stack was held back. Take what would have been needed.
    limit += posdiff(completed, dql.prevNumQueued) + dql.prevOvlimit
    dql.slackStartNs = nowNs
    dql.lowestSlack = Number.MAX_SAFE_INTEGER
  } else if (inprogress !== 0 && prevInprogress !== 0 && !allPrevCompleted) {
    // Busy throughout: whatever was queued beyond two completions' worth was slack.
    let slack = posdiff(limit + dql.prevOvlimit, 2 * (completed - dql.numCompleted))
    const slackLastObjs = dql.prevOvlimit !== 0 ? posdiff(dql.prevLastObjCnt, dql.prevOvlimit) : 0
    slack = Math.max(slack, slackLastObjs)
    if (slack < dql.lowestSlack) dql.lowestSlack = slack
    if (nowNs > dql.slackStartNs + dql.slackHoldNs) {
      limit = posdiff(limit, dql.lowestSlack)
      dql.slackStartNs = nowNs
      dql.lowestSlack = Number.MAX_SAFE_INTEGER
    }
  }
  limit = Math.min(Math.max(limit, dql.minLimit), dql.maxLimit)
  if (limit !== dql.limit) {
    dql.limit = limit
    ovlimit = 0
  }
  dql.adjLimit = limit + completed
  dql.prevOvlimit = ovlimit
  dql.prevLastObjCnt = dql.lastObjCnt
  dql.numCompleted = completed
  dql.prevNumQueued = numQueued
}

/** Models `dql_reset`. */
export function dqlReset(dql: Dql, nowNs: number): void {
  dql.limit = 0
  dql.numQueued = 0
  dql.numCompleted = 0
  dql.lastObjCnt = 0
  dql.prevNumQueued = 0
  dql.prevLastObjCnt = 0
  dql.prevOvlimit = 0
  dql.adjLimit = 0
  dql.lowestSlack = Number.MAX_SAFE_INTEGER
  dql.slackStartNs = nowNs
}
