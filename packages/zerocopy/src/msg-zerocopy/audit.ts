/** Proofs about sends by reference: each pinned page and each notification is accounted for once. */
import { fragPfn, nrFrags, type SkBuff, skbZcopy, ubufIndex, ubufKind } from '@netmem/skbuff'
import { heldSkbs } from '@netmem/skbuff/testing'
import { SO_EE_ORIGIN_ZEROCOPY, type Sock, skbExtErrOrigin } from '@netmem/sockmem'
import { mmpNumPg } from './mmpin.js'
import { type MsgZerocopy, ubufId, ubufLen } from './ubuf.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`MSG_ZEROCOPY audit: ${words()}`)
}

/** Sends that a notification speaks of, both ends included. */
interface Range {
  readonly lo: number
  readonly hi: number
}

function errorQueue(sk: Sock): SkBuff[] {
  const { skbs } = sk.env.skbs
  const list: SkBuff[] = []
  for (let id = sk.errorQueue.first; id !== 0; id = skbs[id]!.next) list.push(skbs[id]!)
  return list.filter((skb) => skbExtErrOrigin(skb) === SO_EE_ORIGIN_ZEROCOPY)
}

/**
 * The laws, to be asked between calls: a waiting notification has as many references as shared infos name it; all that
 * were made wait, were told, joined or given up; a socket's ids are told once; users have pinned at least what
 * notifications say; a page in a packet by reference has that reference.
 */
export function auditMsgZerocopy(zc: MsgZerocopy): void {
  const { socks } = zc
  const { pages } = socks.mem
  const held = heldSkbs(socks.skbs)
  const holders = new Map<number, number>()
  const pinned = new Map<number, number>()
  const seen = new Set<number>()
  for (const skb of held) {
    const ubuf = skbZcopy(skb)
    if (ubuf === 0 || ubufKind(ubuf) !== zc.kind || seen.has(skb.end)) continue
    seen.add(skb.end)
    holders.set(ubufIndex(ubuf), (holders.get(ubufIndex(ubuf)) ?? 0) + 1)
    for (let i = 0; i < nrFrags(skb); i++) pinned.set(fragPfn(skb, i), (pinned.get(fragPfn(skb, i)) ?? 0) + 1)
  }
  for (const [pfn, count] of pinned) {
    const refs = pages.refcount[pages.head[pfn]!]!
    check(refs >= count, () => `page ${pfn} is in ${count} fragments and has ${refs} references`)
  }
  const told = new Set<number>()
  const ranges = new Map<number, Range[]>()
  let queued = 0
  for (const sk of socks.socks)
    if (sk !== null) {
      const list = errorQueue(sk)
      queued += list.length
      for (const note of list) told.add(note.id)
      ranges.set(
        sk.id,
        list.map((note) => ({ lo: note.cb6 >>> 0, hi: note.cb7 >>> 0 })),
      )
    }
  let waiting = 0
  let pinnedPages = 0
  for (const note of held) {
    if (note.destructor !== socks.sockOfree || told.has(note.id)) continue
    waiting += 1
    pinnedPages += mmpNumPg(note)
    const found = holders.get(note.id) ?? 0
    holders.delete(note.id)
    check(note.cb0 === found, () => `notification ${note.id} has ${note.cb0} references, ${found} packets name it`)
    const sk = socks.sockOf(note)
    if (ubufLen(note) > 0) ranges.get(sk.id)!.push({ lo: ubufId(note), hi: (ubufId(note) + ubufLen(note) - 1) >>> 0 })
  }
  check(holders.size === 0, () => `packets name notifications that are gone: ${[...holders.keys()].join(' ')}`)
  check(
    zc.made - zc.queued - zc.joined - zc.dropped === waiting,
    () => `${zc.made} made, ${zc.queued} told, ${zc.joined} joined, ${zc.dropped} given up, ${waiting} wait`,
  )
  check(queued <= zc.queued, () => `${queued} are on error queues, ${zc.queued} were put there`)
  const locked = socks.users.reduce((sum, user) => sum + user.lockedVm, 0)
  check(locked >= pinnedPages, () => `users have ${locked} pages pinned, notifications say ${pinnedPages}`)
  for (const [id, list] of ranges) disjoint(socks.socks[id]!, list)
}

function disjoint(sk: Sock, list: Range[]): void {
  list.sort((a, b) => a.lo - b.lo)
  for (const [i, range] of list.entries()) {
    check(range.hi < sk.zckey >>> 0, () => `socket ${sk.id} tells of send ${range.hi}, ${sk.zckey >>> 0} were made`)
    const next = list[i + 1]
    if (next !== undefined)
      check(
        next.lo > range.hi,
        () => `socket ${sk.id} tells of send ${next.lo} twice: ${range.lo} to ${range.hi} has it`,
      )
  }
}

/** Everything was sent and told: no page of a user is pinned, nothing waits. */
export function assertMsgZerocopyQuiescent(zc: MsgZerocopy): void {
  auditMsgZerocopy(zc)
  const waiting = zc.made - zc.queued - zc.joined - zc.dropped
  check(waiting === 0, () => `${waiting} notifications wait for packets`)
  for (const user of zc.socks.users)
    check(user.lockedVm === 0, () => `user ${user.uid} still has ${user.lockedVm} pages pinned`)
}
