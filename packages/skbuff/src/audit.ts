/**
 * Audits: walk everything and prove the conservation laws. They need a build with assertions, as the slab
 * remembers what it handed out only there. Each throws an `Error` that says what is wrong, in words.
 */
import type { KmemCache } from '@netmem/memory'
import type { Skbuffs } from './env.js'
import { dataref, fragLen, fragList, fragPfn, nrFrags, SKB_DATAREF_MASK, SKB_DATAREF_SHIFT } from './shared-info.js'
import { SKB_CLONED, SKB_FCLONE_CLONE, SKB_FCLONE_ORIG, SKB_HEAD_FRAG, SKB_NOHDR, type SkBuff } from './sk-buff.js'

const fail = (words: string): never => {
  throw new Error(`skb audit: ${words}`)
}

const check = (ok: boolean, words: () => string): void => {
  if (!ok) fail(words())
}

const name = (skb: SkBuff): string => `skb ${skb.id}`

/** @returns numbers of the objects that the slab has handed out. */
function liveObjects(cache: KmemCache): number[] {
  const objs: number[] = []
  cache.core.live.forEach((live, obj) => {
    if (live === 1) objs.push(obj)
  })
  return objs
}

/** @returns every skb that somebody holds, waiting ones included; idle heads of the napi caches are not held. */
export function heldSkbs(env: Skbuffs): SkBuff[] {
  const idle = new Set<number>()
  for (const nc of env.napi) {
    check(nc.stacked >= 0 && nc.stacked <= nc.stack.length - 2, () => `napi cache of CPU ${nc.cpu} holds ${nc.stacked}`)
    const heads = nc.stack.slice(0, nc.stacked)
    if (nc.hottest !== null) heads.push(nc.hottest)
    for (const head of heads) {
      const { obj } = head!
      check(!idle.has(obj), () => `head object ${obj} is in the napi caches twice`)
      idle.add(obj)
    }
  }
  const waiting = new Set(env.completionQueue.flatMap((queue) => queueIds(env, queue.first)))
  const held: SkBuff[] = []
  for (const obj of liveObjects(env.skbuffCache)) if (!idle.delete(obj)) held.push(env.headBodies[obj]!)
  check(idle.size === 0, () => `a napi cache holds a head that the slab did not hand out: ${[...idle].join(' ')}`)
  for (const obj of liveObjects(env.fcloneCache)) {
    const pair = [env.fcloneBodies[2 * obj]!, env.fcloneBodies[2 * obj + 1]!]
    const halves = pair.filter((skb) => skb.users > 0 || waiting.has(skb.id))
    check(
      pair[0]!.fcloneRef === halves.length,
      () => `pair ${obj}: reference ${pair[0]!.fcloneRef}, held halves ${halves.length}`,
    )
    held.push(...halves)
  }
  for (const skb of held) check(skb.users > 0 || waiting.has(skb.id), () => `${name(skb)} is out and nobody holds it`)
  return held
}

function queueIds(env: Skbuffs, first: number): number[] {
  const ids: number[] = []
  for (let id = first; id !== 0; id = env.skbs[id]!.next) ids.push(id)
  return ids
}

/** Pointers and lengths of one skb: `head ≤ data ≤ tail ≤ end`, and every byte counted once. */
export function auditSkb(skb: SkBuff): void {
  const { env } = skb
  const at = (addr: number) => (addr - skb.head) | 0
  check(at(skb.data) >= 0 && at(skb.tail) >= at(skb.data) && at(skb.end) >= at(skb.tail), () => {
    return `${name(skb)}: pointers out of order: data ${at(skb.data)} tail ${at(skb.tail)} end ${at(skb.end)}`
  })
  check(nrFrags(skb) <= env.sizes.maxFrags, () => `${name(skb)}: ${nrFrags(skb)} fragments`)
  let pieces = 0
  for (let i = 0; i < nrFrags(skb); i++) pieces += fragLen(skb, i)
  for (let id = fragList(skb); id !== 0; id = env.skbs[id]!.next) pieces += env.skbs[id]!.len
  check(skb.dataLen === pieces, () => `${name(skb)}: data_len ${skb.dataLen}, its pieces have ${pieces}`)
  const linear = at(skb.tail) - at(skb.data)
  check(skb.len === linear + pieces, () => `${name(skb)}: len ${skb.len}, has ${linear} + ${pieces}`)
  check(skb.truesize > 0, () => `${name(skb)}: truesize ${skb.truesize}`)
}

/**
 * Proves the laws of the subsystem: every head is idle, cached or held; every pair counts its held halves;
 * `dataref` counts its holders; every page has at least the references that packets need. `strict` also audits
 * each skb's lengths, which do not hold in the middle of building one.
 */
export function auditSkbs(env: Skbuffs, strict = true): void {
  const held = heldSkbs(env)
  const holders = new Map<number, SkBuff[]>()
  for (const skb of held) {
    if (strict) auditSkb(skb)
    holders.set(skb.end, [...(holders.get(skb.end) ?? []), skb])
    const kind = skb.fclone
    if (kind === SKB_FCLONE_ORIG || kind === SKB_FCLONE_CLONE)
      check(skb.twin !== null, () => `${name(skb)} claims to be half of a pair`)
  }
  const pages = new Map<number, number>()
  const count = (page: number, refs: number) => pages.set(page, (pages.get(page) ?? 0) + refs)
  for (const group of holders.values()) {
    const skb = group[0]!
    const refs = dataref(skb)
    check(
      (refs & SKB_DATAREF_MASK) === group.length,
      () => `${name(skb)}: dataref ${refs & SKB_DATAREF_MASK}, holders ${group.length}`,
    )
    const headless = group.filter((one) => (one.flags & SKB_NOHDR) !== 0).length
    check(
      refs >> SKB_DATAREF_SHIFT === headless,
      () => `${name(skb)}: ${refs >> SKB_DATAREF_SHIFT} without header, ${headless} say so`,
    )
    check(
      group.length === 1 || group.every((one) => (one.flags & SKB_CLONED) !== 0),
      () => `${name(skb)}: a clone that does not know it`,
    )
    if ((skb.flags & SKB_HEAD_FRAG) !== 0) count(env.pageHead[skb.head >>> 12]!, 1)
    for (let i = 0; i < nrFrags(skb); i++) if (fragPfn(skb, i) > 0) count(env.pageHead[fragPfn(skb, i)]!, 1)
  }
  for (const [page, refs] of pages)
    if (env.mem.pages.pp[page] === 0)
      check(env.refcount[page]! >= refs, () => `page ${page}: ${env.refcount[page]} references, packets hold ${refs}`)
}

/** Asserts that nobody holds anything: idle heads may rest in the napi caches, and that is all. */
export function assertSkbsQuiescent(env: Skbuffs): void {
  const held = heldSkbs(env)
  if (held.length > 0)
    fail(`still held: ${held.map((skb) => `${name(skb)} (len ${skb.len}, users ${skb.users})`).join(', ')}`)
  for (const cache of [env.smallHeadCache, env.extCache])
    if (cache !== null && !cache.merged)
      check(liveObjects(cache).length === 0, () => `${cache.name}: objects still out`)
}

/** @returns heads in that CPU's napi cache: what a recording calls `napi_skbs`. */
export const napiSkbCount = (env: Skbuffs, cpu: number): number => env.napi[cpu]!.skbCount
