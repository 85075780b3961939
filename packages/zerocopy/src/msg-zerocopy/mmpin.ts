/**
 * What a user may keep pinned: each send by reference counts its pages against `RLIMIT_MEMLOCK`, for all processes
 * of the user together, until its notification is made. `CAP_IPC_LOCK` is above that.
 *
 * Conservation, per user: *lockedVm = Σ over its references to user pages (`cb5` of live notifications)*.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { CAP_IPC_LOCK, capable, currentUser, type SockEnv, type Task } from '@netmem/sockmem'

// Models `struct mmpin`, in the notification's control block: the user's index plus 1, and pages.
const mmpUser = (skb: SkBuff): number => skb.cb4
/** Pages that a notification answers for. */
export const mmpNumPg = (skb: SkBuff): number => skb.cb5

/** Nothing is pinned yet for a new notification. */
export function mmpinInit(skb: SkBuff): void {
  skb.cb4 = 0
  skb.cb5 = 0
}

/**
 * Models `mm_account_pinned_pages` (net/core/skbuff.c). @param bytes of the send: the pages that they take in the
 * worst case are counted, wherever they begin. @returns 0, or -ENOBUFS with nothing counted.
 */
export function mmAccountPinnedPages(socks: SockEnv, task: Task, skb: SkBuff, bytes: number): number {
  if (bytes === 0 || capable(task, CAP_IPC_LOCK) || task.rlimitMemlock === Infinity) return 0
  const { pageShift } = socks
  const pages = (bytes >>> pageShift) + 2
  const user = mmpUser(skb) !== 0 ? socks.users[mmpUser(skb) - 1] : currentUser(socks, task)
  if (user.lockedVm + pages > Math.floor(task.rlimitMemlock / 2 ** pageShift)) return -ERRNO.ENOBUFS
  user.lockedVm += pages
  skb.cb4 = user.index + 1
  skb.cb5 += pages
  return 0
}

/** Models `mm_unaccount_pinned_pages`: the pages are the user's again. */
export function mmUnaccountPinnedPages(socks: SockEnv, _cpu: Cpu, skb: SkBuff): void {
  if (mmpUser(skb) === 0) return
  socks.users[mmpUser(skb) - 1].lockedVm -= mmpNumPg(skb)
  mmpinInit(skb)
}
