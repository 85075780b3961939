/**
 * Which packet holds which pages: what the owner report of page pools asks (`pagePoolHoldersReport`). Layers that
 * queue packets name their queues by `skbListHolders`; what waits in this layer's own lists is named here. Cold:
 * called only when somebody asks.
 */
import { type HolderWalk, type Netmem, type PageHolder, pagePoolRegisterHolders } from '@netmem/page-pool'
import type { Skbuffs } from './env.js'
import { fragList, fragPfn, nrFrags } from './shared-info.js'
import { SKB_HEAD_FRAG, type SkBuff } from './sk-buff.js'

type Visit = (netmem: Netmem, holder: PageHolder) => void

/** Visits every page that a packet refers to: of its head, of its fragments, and of the packets in its list. */
export function skbEachPage(skb: SkBuff, visit: (netmem: Netmem) => void): void {
  const { env } = skb
  if ((skb.flags & SKB_HEAD_FRAG) !== 0) visit(env.pageHead[skb.head >>> 12]!)
  const count = nrFrags(skb)
  for (let i = 0; i < count; i++) visit(fragPfn(skb, i))
  for (let id = fragList(skb); id !== 0; id = env.skbs[id]!.next) skbEachPage(env.skbs[id]!, visit)
}

/** Visits the pages of one packet, with the packet as their holder. @param where it waits: a queue, a ring. */
export function skbHolders(skb: SkBuff, where: string, visit: Visit): void {
  const holder: PageHolder = { kind: 'skb', name: String(skb.id), where }
  skbEachPage(skb, (netmem) => visit(netmem, holder))
}

/** The same for packets linked by `next`. @param first id of the first, 0 for none. */
export function skbListHolders(env: Skbuffs, first: number, where: string, visit: Visit): void {
  for (let id = first; id !== 0; id = env.skbs[id]!.next) skbHolders(env.skbs[id]!, where, visit)
}

/** What this layer holds itself: packets on their way home, packets that interrupts left to the softirq. */
const ownLists =
  (env: Skbuffs): HolderWalk =>
  (visit) => {
    env.deferNodes.forEach((nodes, cpu) => {
      for (const node of nodes) skbListHolders(env, node.first, `CPU ${cpu}, to be freed by its next softirq`, visit)
    })
    env.completionQueue.forEach((queue, cpu) => {
      skbListHolders(env, queue.first, `CPU ${cpu}, completion queue`, visit)
    })
  }

/** Names this layer to the machine's page pools, if it has any. */
export function skbRegisterHolders(env: Skbuffs): void {
  if (env.pagePools !== null) pagePoolRegisterHolders(env.pagePools, ownLists(env))
}
