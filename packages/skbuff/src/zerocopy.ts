/**
 * Packets whose bytes somebody else still owns: user pages of MSG_ZEROCOPY, buffers of a vhost. The owner
 * registers what to do when the last packet lets go; before such a packet reaches a receiver that may keep it
 * for long, its bytes are copied and the owner is told so.
 */
import { assert, type Cpu } from '@netmem/base'
import { getPage } from '@netmem/memory'
import type { Skbuffs } from './env.js'
import {
  destructorArg,
  fragPfn,
  nrFrags,
  SKBFL_ALL_ZEROCOPY,
  SKBFL_MANAGED_FRAG_REFS,
  SKBFL_PURE_ZEROCOPY,
  SKBFL_ZEROCOPY_ENABLE,
  setDestructorArg,
  setShinfoFlags,
  shinfoFlags,
} from './shared-info.js'
import type { SkBuff } from './sk-buff.js'

/** Models `struct ubuf_info_ops`: what an owner does. Calls carry the ubuf's number as the owner registered it. */
export interface UbufOps {
  /** Models `complete`: one skb lets go; `success` false when the bytes were copied instead. */
  complete(cpu: Cpu, skb: SkBuff | null, ubuf: number, success: boolean): void
  /** Models `link_skb`: joins an skb to a ubuf. @returns 0 or a negative errno. */
  linkSkb?(skb: SkBuff, ubuf: number): number
  /** Models the reference of `net_zcopy_get`. */
  get(ubuf: number): void
  /** Models `SKBFL_*` bits that an skb of this ubuf carries. */
  readonly flags: number
}

/** Registers a ubuf owner. @returns the number to combine into a ubuf with `ubufOf`. */
export function registerUbufOps(env: Skbuffs, ops: UbufOps): number {
  env.ubufOps.push(ops)
  assert(env.ubufOps.length <= 256, 'more than 255 kinds of ubuf')
  return env.ubufOps.length - 1
}

/** Makes the number stored in `destructor_arg`: kind in the low 8 bits, the owner's index above. */
export const ubufOf = (kind: number, index: number): number => (index << 8) | kind
/** @returns the owner's index. */
export const ubufIndex = (ubuf: number): number => ubuf >>> 8
export const ubufKind = (ubuf: number): number => ubuf & 0xff

/** Models `skb_zcopy`: the ubuf that waits for this skb, 0 none. */
export const skbZcopy = (skb: SkBuff): number =>
  (shinfoFlags(skb) & SKBFL_ZEROCOPY_ENABLE) !== 0 ? destructorArg(skb) : 0

/** Models `skb_zcopy_pure`. */
export const skbZcopyPure = (skb: SkBuff): boolean => (shinfoFlags(skb) & SKBFL_PURE_ZEROCOPY) !== 0

/** Models `skb_zcopy_managed`. */
export const skbZcopyManaged = (skb: SkBuff): boolean => (shinfoFlags(skb) & SKBFL_MANAGED_FRAG_REFS) !== 0

/** Models `skb_zcopy_init`: sets the ubuf without taking a reference. */
export function skbZcopyInit(skb: SkBuff, ubuf: number): void {
  setDestructorArg(skb, ubuf)
  setShinfoFlags(skb, shinfoFlags(skb) | skb.env.ubufOps[ubufKind(ubuf)]!.flags)
}

/** Models `skb_zcopy_set`: sets the ubuf unless there is one; takes a reference unless the caller gives its own. */
export function skbZcopySet(skb: SkBuff, ubuf: number, haveRef: boolean): void {
  if (ubuf === 0 || skbZcopy(skb) !== 0) return
  if (!haveRef) netZcopyGet(skb.env, ubuf)
  skbZcopyInit(skb, ubuf)
}

/** Models `net_zcopy_get`. */
export const netZcopyGet = (env: Skbuffs, ubuf: number): void => env.ubufOps[ubufKind(ubuf)]!.get(ubufIndex(ubuf))

/** Models `net_zcopy_put`: a reference that no skb holds. */
export const netZcopyPut = (env: Skbuffs, cpu: Cpu, ubuf: number): void =>
  env.ubufOps[ubufKind(ubuf)]!.complete(cpu, null, ubufIndex(ubuf), true)

/** Models `skb_zcopy_clear` (include/linux/skbuff.h): tells the owner, and forgets it. */
export function skbZcopyClear(cpu: Cpu, skb: SkBuff, success: boolean): void {
  const ubuf = skbZcopy(skb)
  if (ubuf === 0) return
  skb.env.ubufOps[ubufKind(ubuf)]!.complete(cpu, skb, ubufIndex(ubuf), success)
  setShinfoFlags(skb, shinfoFlags(skb) & ~SKBFL_ALL_ZEROCOPY)
}

/** Models `skb_zcopy_downgrade_managed`: the fragments' references become the skb's own. */
export function skbZcopyDowngradeManaged(skb: SkBuff): void {
  if (!skbZcopyManaged(skb)) return
  setShinfoFlags(skb, shinfoFlags(skb) & ~SKBFL_MANAGED_FRAG_REFS)
  for (let i = nrFrags(skb) - 1; i >= 0; i--) getPage(skb.env.mem, fragPfn(skb, i))
}
