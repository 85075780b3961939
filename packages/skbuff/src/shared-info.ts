/**
 * What all clones of a packet share, stored as the kernel stores it: a `struct skb_shared_info` in the
 * packet's own memory, at `end`. Sharing is free, and a use after free is visible as overwritten bytes.
 *
 *     end + 0  flags, meta_len, nr_frags, tx_flags     + 4  gso_size, gso_segs     + 8  frag_list (an skb id)
 *         +16  hwtstamps        +24 gso_type, tskey    +32  dataref    +40 destructor_arg (a ubuf id)
 *         +48  frags[]: 16 bytes each: page frame, (pad), length, offset
 *
 * The offsets are those of both built-in kernels; `skbInit` refuses a profile that has others.
 *
 * Most packets never use it, and clearing it would cost each of them a cold cache line. So birth leaves the
 * memory as it is, and `SKB_SHINFO_USED` tells whether it counts: without the flag the info reads as fresh (all
 * zero, `dataref` 1) and nobody may look at the bytes; the first writer clears it. Go by these accessors only.
 */
import { type Addr, assert, type KernelProfile, type Pfn } from '@netmem/base'
import { SKB_SHINFO_USED, type SkBuff } from './sk-buff.js'

// Word offsets from `end`.
export const SHINFO_FLAGS_WORD = 0
export const SHINFO_GSO_WORD = 1
export const SHINFO_FRAG_LIST_WORD = 2
export const SHINFO_HWTSTAMPS_WORD = 4
export const SHINFO_GSO_TYPE_WORD = 6
export const SHINFO_TSKEY_WORD = 7
export const SHINFO_DATAREF_WORD = 8
export const SHINFO_DESTRUCTOR_ARG_WORD = 10
export const SHINFO_FRAGS_WORD = 12
export const SHINFO_FRAG_WORDS = 4

/** Models `SKB_DATAREF_SHIFT`: the high half of `dataref` counts holders that gave up the header. */
export const SKB_DATAREF_SHIFT = 16
export const SKB_DATAREF_MASK = (1 << SKB_DATAREF_SHIFT) - 1

/** Models `SKBFL_ZEROCOPY_ENABLE`: somebody waits for the completion of these fragments. */
export const SKBFL_ZEROCOPY_ENABLE = 1
/** Models `SKBFL_SHARED_FRAG`: user space may still write to the fragments. */
export const SKBFL_SHARED_FRAG = 2
/** Models `SKBFL_PURE_ZEROCOPY`: no byte of the fragments is charged to the sender. */
export const SKBFL_PURE_ZEROCOPY = 4
/** Models `SKBFL_DONT_ORPHAN`. */
export const SKBFL_DONT_ORPHAN = 8
/** Models `SKBFL_MANAGED_FRAG_REFS`: the fragments' references belong to the ubuf. */
export const SKBFL_MANAGED_FRAG_REFS = 16
export const SKBFL_ZEROCOPY_FRAG = SKBFL_ZEROCOPY_ENABLE | SKBFL_SHARED_FRAG
export const SKBFL_ALL_ZEROCOPY =
  SKBFL_ZEROCOPY_FRAG | SKBFL_PURE_ZEROCOPY | SKBFL_DONT_ORPHAN | SKBFL_MANAGED_FRAG_REFS

/** @throws RangeError when the profile lays the shared info out in another way. */
export function checkSharedInfoLayout(profile: KernelProfile): void {
  const have = profile.structs.skb_shared_info?.offsets ?? {}
  const want: Record<string, number> = {
    flags: 0,
    meta_len: 1,
    nr_frags: 2,
    tx_flags: 3,
    gso_size: 4,
    gso_segs: 6,
    frag_list: 8,
    gso_type: SHINFO_GSO_TYPE_WORD * 4,
    tskey: SHINFO_TSKEY_WORD * 4,
    dataref: SHINFO_DATAREF_WORD * 4,
    destructor_arg: SHINFO_DESTRUCTOR_ARG_WORD * 4,
    frags: SHINFO_FRAGS_WORD * 4,
  }
  for (const [member, offset] of Object.entries(want))
    if (have[member] !== offset)
      throw new RangeError(`profile ${profile.name}: structs.skb_shared_info.offsets.${member} must be ${offset}`)
}

/** Models `struct skb_shared_info` as `skb_shinfo` finds it: index of the info's first word in `mem.i32`. Clears a fresh one. */
export function skbShinfo(skb: SkBuff): number {
  if ((skb.flags & SKB_SHINFO_USED) === 0) clearShinfo(skb)
  return skb.end >>> 2
}

/**
 * The clearing that `__finalize_skb_around` does at birth, when it is needed: everything up to `dataref`, two words
 * a store; of the hardware time stamps nothing is read before they are set.
 */
function clearShinfo(skb: SkBuff): void {
  skb.flags |= SKB_SHINFO_USED
  const doubles = skb.env.f64
  const at = skb.end >>> 3
  doubles[at] = 0
  doubles[at + 1] = 0
  doubles[at + 3] = 0
  // The smallest double there is has the bits of the integer 1.
  doubles[at + 4] = Number.MIN_VALUE
}

/** Whether the info may be read: see above. */
const used = (skb: SkBuff): boolean => (skb.flags & SKB_SHINFO_USED) !== 0

// Members of `struct skb_shared_info`, by their names.

export const shinfoFlags = (skb: SkBuff): number => (used(skb) ? skb.env.u8[skb.end >>> 0]! : 0)
export const setShinfoFlags = (skb: SkBuff, flags: number): void => {
  if (!used(skb)) clearShinfo(skb)
  skb.env.u8[skb.end >>> 0] = flags
}
export const nrFrags = (skb: SkBuff): number => (used(skb) ? skb.env.u8[(skb.end + 2) >>> 0]! : 0)
export const setNrFrags = (skb: SkBuff, count: number): void => {
  if (__ASSERT__) assert(count >= 0 && count <= skb.env.sizes.maxFrags, 'more fragments than MAX_SKB_FRAGS')
  if (!used(skb)) clearShinfo(skb)
  skb.env.u8[(skb.end + 2) >>> 0] = count
}
export const txFlags = (skb: SkBuff): number => (used(skb) ? skb.env.u8[(skb.end + 3) >>> 0]! : 0)
export const setTxFlags = (skb: SkBuff, flags: number): void => {
  if (!used(skb)) clearShinfo(skb)
  skb.env.u8[(skb.end + 3) >>> 0] = flags
}
export const metaLen = (skb: SkBuff): number => (used(skb) ? skb.env.u8[(skb.end + 1) >>> 0]! : 0)
/** Models `skb_metadata_set`: bytes in front of the MAC header that XDP left for the stack. */
export const setMetaLen = (skb: SkBuff, bytes: number): void => {
  if (!used(skb)) clearShinfo(skb)
  skb.env.u8[(skb.end + 1) >>> 0] = bytes
}
export const gsoSize = (skb: SkBuff): number =>
  used(skb) ? skb.env.i32[(skb.end >>> 2) + SHINFO_GSO_WORD]! & 0xffff : 0
export const gsoSegs = (skb: SkBuff): number => (used(skb) ? skb.env.i32[(skb.end >>> 2) + SHINFO_GSO_WORD]! >>> 16 : 0)
export const gsoType = (skb: SkBuff): number => (used(skb) ? skb.env.i32[(skb.end >>> 2) + SHINFO_GSO_TYPE_WORD]! : 0)
export const setGsoSize = (skb: SkBuff, bytes: number): void => {
  const at = skbShinfo(skb) + SHINFO_GSO_WORD
  skb.env.i32[at] = (skb.env.i32[at]! & ~0xffff) | (bytes & 0xffff)
}
export const setGsoSegs = (skb: SkBuff, segments: number): void => {
  const at = skbShinfo(skb) + SHINFO_GSO_WORD
  skb.env.i32[at] = (skb.env.i32[at]! & 0xffff) | (segments << 16)
}
export const setGsoType = (skb: SkBuff, type: number): void => {
  skb.env.i32[skbShinfo(skb) + SHINFO_GSO_TYPE_WORD] = type
}
/** Models `skb_is_gso`. */
export const skbIsGso = (skb: SkBuff): boolean => gsoSize(skb) !== 0
/** Models `skb_gso_reset`. */
export function skbGsoReset(skb: SkBuff): void {
  if (!used(skb)) return
  skb.env.i32[(skb.end >>> 2) + SHINFO_GSO_WORD] = 0
  setGsoType(skb, 0)
}
export const tskey = (skb: SkBuff): number => (used(skb) ? skb.env.i32[(skb.end >>> 2) + SHINFO_TSKEY_WORD]! : 0)
export const setTskey = (skb: SkBuff, key: number): void => {
  skb.env.i32[skbShinfo(skb) + SHINFO_TSKEY_WORD] = key
}

/** The fragment list: id of its first skb, 0 none. */
export const fragList = (skb: SkBuff): number => (used(skb) ? skb.env.i32[(skb.end >>> 2) + SHINFO_FRAG_LIST_WORD]! : 0)
export const setFragList = (skb: SkBuff, first: number): void => {
  skb.env.i32[skbShinfo(skb) + SHINFO_FRAG_LIST_WORD] = first
}
/** Models `skb_has_frag_list`. */
export const skbHasFragList = (skb: SkBuff): boolean => fragList(skb) !== 0

/** Models `atomic_read(&skb_shinfo(skb)->dataref)`: holders, and in the high half those without a header. */
export const dataref = (skb: SkBuff): number => (used(skb) ? skb.env.i32[(skb.end >>> 2) + SHINFO_DATAREF_WORD]! : 1)
export const setDataref = (skb: SkBuff, refs: number): void => {
  skb.env.i32[skbShinfo(skb) + SHINFO_DATAREF_WORD] = refs
}
/** Valid while the flags say that somebody waits for completion. */
export const destructorArg = (skb: SkBuff): number => skb.env.i32[(skb.end >>> 2) + SHINFO_DESTRUCTOR_ARG_WORD]!
export const setDestructorArg = (skb: SkBuff, ubuf: number): void => {
  skb.env.i32[(skb.end >>> 2) + SHINFO_DESTRUCTOR_ARG_WORD] = ubuf
}

// Fragments: `skb_frag_t`, by index.

const fragWord = (skb: SkBuff, i: number): number => (skb.end >>> 2) + SHINFO_FRAGS_WORD + i * SHINFO_FRAG_WORDS

/** Models `skb_frag_page`: the frame; with `fragOff` beyond a page, that many frames further. */
export const fragPfn = (skb: SkBuff, i: number): Pfn => skb.env.i32[fragWord(skb, i)]! as Pfn
/** Models `skb_frag_size`, in bytes. */
export const fragLen = (skb: SkBuff, i: number): number => skb.env.i32[fragWord(skb, i) + 2]!
/** Models `skb_frag_off`, in bytes from the start of the frame. */
export const fragOff = (skb: SkBuff, i: number): number => skb.env.i32[fragWord(skb, i) + 3]!
/** Models `skb_frag_address`. */
export const fragAddr = (skb: SkBuff, i: number): Addr => (((fragPfn(skb, i) << 12) + fragOff(skb, i)) | 0) as Addr
export const setFrag = (skb: SkBuff, i: number, pfn: Pfn, off: number, len: number): void => {
  const at = fragWord(skb, i)
  const words = skb.env.i32
  words[at] = pfn
  words[at + 1] = 0
  words[at + 2] = len
  words[at + 3] = off
}
/** Models `skb_frag_size_set`. */
export const setFragLen = (skb: SkBuff, i: number, len: number): void => {
  skb.env.i32[fragWord(skb, i) + 2] = len
}
/** Models `skb_frag_off_set`. */
export const setFragOff = (skb: SkBuff, i: number, off: number): void => {
  skb.env.i32[fragWord(skb, i) + 3] = off
}
/** Copies fragment `j` of `from` into slot `i` of `to`; references are the caller's business. */
export const copyFrag = (to: SkBuff, i: number, from: SkBuff, j: number): void =>
  setFrag(to, i, fragPfn(from, j), fragOff(from, j), fragLen(from, j))

/** Models `skb_can_coalesce`: new bytes at (page, offset) continue the last fragment. */
export function skbCanCoalesce(skb: SkBuff, i: number, pfn: Pfn, off: number): boolean {
  if (i === 0 || (shinfoFlags(skb) & SKBFL_ZEROCOPY_ENABLE) !== 0) return false
  return fragPfn(skb, i - 1) === pfn && fragOff(skb, i - 1) + fragLen(skb, i - 1) === off
}
