/**
 * One packet's descriptor. Every field is a small integer: links and owners are ids, addresses are signed
 * direct-map words, the kernel's bit fields share one `flags` word behind accessors. What clones share (the
 * shared info, `dataref`, the fragments) is not here but in the packet's own memory, at `end`.
 *
 * An `SkBuff` object stands for one slab object and lives as long as the machine; being free or in use is
 * the slab's business. So a field has a value at birth only where the kernel's clearing matters:
 *
 * - `prev`, `networkHeader`, `macLen`, `hdrLen`, `cb0`..`cb11`, `devScratch`, `csum*`, `skbIif`, `napiId` and the
 *   inner headers are undefined until set (the kernel's are zero; nobody may read them before they are set);
 * - `mark`, `tstamp`, `vlanTci` and extensions are valid when their flag says so, and their accessors read 0 otherwise.
 */
import type { Addr, Pfn } from '@netmem/base'
import type { Skbuffs } from './env.js'
import type { SkBuffRare } from './sk-buff-rare.js'

// The bits of `flags`. One word, so that birth, clone and the questions of release cost one access.
export const SKB_CLONED = 1 << 0
export const SKB_NOHDR = 1 << 1
/** Two bits: `SKB_FCLONE_UNAVAILABLE`, `_ORIG` or `_CLONE`. */
export const SKB_FCLONE_SHIFT = 2
export const SKB_FCLONE_MASK = 3 << SKB_FCLONE_SHIFT
export const SKB_PEEKED = 1 << 4
export const SKB_HEAD_FRAG = 1 << 5
export const SKB_PFMEMALLOC = 1 << 6
export const SKB_PP_RECYCLE = 1 << 7
export const SKB_HAS_EXTENSIONS = 1 << 8
const PKT_TYPE_SHIFT = 9
const PKT_TYPE_MASK = 7 << PKT_TYPE_SHIFT
const IP_SUMMED_SHIFT = 12
/** Clear for `CHECKSUM_NONE`. */
export const SKB_IP_SUMMED_MASK = 3 << IP_SUMMED_SHIFT
export const SKB_L4_HASH = 1 << 14
export const SKB_SW_HASH = 1 << 15
export const SKB_ENCAPSULATION = 1 << 16
export const SKB_IGNORE_DF = 1 << 17
export const SKB_CSUM_COMPLETE_SW = 1 << 18
const CSUM_LEVEL_SHIFT = 19
const CSUM_LEVEL_MASK = 3 << CSUM_LEVEL_SHIFT
export const SKB_CSUM_VALID = 1 << 21
export const SKB_VLAN_PRESENT = 1 << 22
export const SKB_HAS_MARK = 1 << 23
export const SKB_HAS_TSTAMP = 1 << 24
export const SKB_DST_PENDING_CONFIRM = 1 << 25
export const SKB_UNREADABLE = 1 << 26
export const SKB_DECRYPTED = 1 << 27
export const SKB_REDIRECTED = 1 << 28
/**
 * Ours: the shared info has been cleared and counts. Without this flag it reads as fresh, and a packet is known to
 * be linear and never cloned without touching its memory (`shared-info.ts`).
 */
export const SKB_SHINFO_USED = 1 << 29
/** Ours: somebody has written to `cb`; without this flag a clone need not take it along. */
export const SKB_CB_USED = 1 << 30
/** Members outside the copied core that a clone must take along. */
export const SKB_RARE_MASK = SKB_HAS_EXTENSIONS | SKB_ENCAPSULATION | SKB_VLAN_PRESENT | SKB_HAS_MARK | SKB_HAS_TSTAMP

export const SKB_FCLONE_UNAVAILABLE = 0
export const SKB_FCLONE_ORIG = 1
export const SKB_FCLONE_CLONE = 2

export const CHECKSUM_NONE = 0
export const CHECKSUM_UNNECESSARY = 1
export const CHECKSUM_COMPLETE = 2
export const CHECKSUM_PARTIAL = 3

export const PACKET_HOST = 0
export const PACKET_BROADCAST = 1
export const PACKET_MULTICAST = 2
export const PACKET_OTHERHOST = 3
export const PACKET_OUTGOING = 4
export const PACKET_LOOPBACK = 5

/** A header offset that has not been set. */
export const SKB_HEADER_UNSET = 0xffff

/** Models `struct sk_buff` (include/linux/skbuff.h). Lengths and offsets in bytes; ids 0 mean none. */
export class SkBuff {
  declare readonly env: Skbuffs
  declare flags: number
  /** Models `skb->users`: 1 while the only holder frees it; 0 only while a sanitizing build has it free. */
  declare users: number
  /** Head page of `head` while `SKB_HEAD_FRAG` says that this is a page fragment. */
  declare headPage: Pfn
  /** Models `_skb_refdst`: id of the route that the packet holds, 0 none. */
  declare refdst: number
  /** Number of a registered destructor, 0 none. */
  declare destructor: number
  declare head: Addr
  declare data: Addr
  declare tail: Addr
  /** Address of the shared info. */
  declare end: Addr
  /** Linear bytes and `dataLen` together. */
  declare len: number
  /** Bytes in fragments and in the fragment list. */
  declare dataLen: number
  /** What this packet is charged for: its memory, not its bytes. */
  declare truesize: number
  declare next: number
  declare sk: number
  declare dev: number
  /** EtherType as a plain number. */
  declare protocol: number
  declare transportHeader: number
  declare macHeader: number
  declare queueMapping: number
  declare priority: number
  declare hash: number
  declare allocCpu: number
  /** The slab's number of the object: of its own, or of the pair. */
  declare readonly obj: number
  /** Index in `env.skbs`; never 0. */
  declare readonly id: number
  /** The other half of an fclone pair, null for an ordinary head. */
  declare twin: SkBuff | null
  /** Address of the slab object: what traces print. Changes only when its slab comes back at another place. */
  declare addr: Addr
  // Undefined at birth from here on (see above).
  declare prev: number
  declare networkHeader: number
  declare macLen: number
  declare hdrLen: number
  /** Models the union of `csum` and `csum_start`/`csum_offset`: valid for `CHECKSUM_COMPLETE`, signed 32 bit. */
  declare csum: number
  /** Models `dev_scratch`, which shares a word with `dev`: what a receive queue caches (UDP: the truesize). */
  declare devScratch: number
  declare skbIif: number
  declare napiId: number
  /** Models `sk_buff_fclones.fclone_ref`, kept by the original of a pair. */
  declare fcloneRef: number
  /** What few packets use; apart, so that the others' descriptors lie close together. */
  declare readonly rare: SkBuffRare

  // One shape for ever: every field set once, in the order in which a life touches them (cache lines), and never
  // `undefined` for an instant, which would make a small integer a field of any kind.
  constructor(env: Skbuffs, id: number, obj: number, addr: Addr, rare: SkBuffRare) {
    this.env = env
    this.flags = 0
    this.users = 0
    this.headPage = 0 as Pfn
    this.refdst = 0
    this.destructor = 0
    this.head = 0 as Addr
    this.data = 0 as Addr
    this.tail = 0 as Addr
    this.end = 0 as Addr
    this.len = 0
    this.dataLen = 0
    this.truesize = 0
    this.next = 0
    this.sk = 0
    this.dev = 0
    this.protocol = 0
    this.transportHeader = SKB_HEADER_UNSET
    this.macHeader = SKB_HEADER_UNSET
    this.queueMapping = 0
    this.priority = 0
    this.hash = 0
    this.allocCpu = 0
    this.obj = obj
    this.id = id
    this.twin = null
    this.addr = addr
    this.prev = 0
    this.networkHeader = 0
    this.macLen = 0
    this.hdrLen = 0
    this.csum = 0
    this.devScratch = 0
    this.skbIif = 0
    this.napiId = 0
    this.fcloneRef = 0
    this.rare = rare
  }

  // Members that live in `rare`.

  /** Valid for `CHECKSUM_PARTIAL`: offset from `head`. */
  get csumStart(): number {
    return this.rare.csumStart
  }
  set csumStart(value: number) {
    this.rare.csumStart = value
  }
  /** Valid for `CHECKSUM_PARTIAL`: offset from `csumStart`. */
  get csumOffset(): number {
    return this.rare.csumOffset
  }
  set csumOffset(value: number) {
    this.rare.csumOffset = value
  }
  /** Models `skb->cb` as twelve words, whoever has the packet being their owner. */
  get cb0(): number {
    return this.rare.cb0
  }
  set cb0(value: number) {
    this.rare.cb0 = value
    this.flags |= SKB_CB_USED
  }
  get cb1(): number {
    return this.rare.cb1
  }
  set cb1(value: number) {
    this.rare.cb1 = value
    this.flags |= SKB_CB_USED
  }
  get cb2(): number {
    return this.rare.cb2
  }
  set cb2(value: number) {
    this.rare.cb2 = value
    this.flags |= SKB_CB_USED
  }
  get cb3(): number {
    return this.rare.cb3
  }
  set cb3(value: number) {
    this.rare.cb3 = value
    this.flags |= SKB_CB_USED
  }
  get cb4(): number {
    return this.rare.cb4
  }
  set cb4(value: number) {
    this.rare.cb4 = value
    this.flags |= SKB_CB_USED
  }
  get cb5(): number {
    return this.rare.cb5
  }
  set cb5(value: number) {
    this.rare.cb5 = value
    this.flags |= SKB_CB_USED
  }
  get cb6(): number {
    return this.rare.cb6
  }
  set cb6(value: number) {
    this.rare.cb6 = value
    this.flags |= SKB_CB_USED
  }
  get cb7(): number {
    return this.rare.cb7
  }
  set cb7(value: number) {
    this.rare.cb7 = value
    this.flags |= SKB_CB_USED
  }
  get cb8(): number {
    return this.rare.cb8
  }
  set cb8(value: number) {
    this.rare.cb8 = value
    this.flags |= SKB_CB_USED
  }
  get cb9(): number {
    return this.rare.cb9
  }
  set cb9(value: number) {
    this.rare.cb9 = value
    this.flags |= SKB_CB_USED
  }
  get cb10(): number {
    return this.rare.cb10
  }
  set cb10(value: number) {
    this.rare.cb10 = value
    this.flags |= SKB_CB_USED
  }
  get cb11(): number {
    return this.rare.cb11
  }
  set cb11(value: number) {
    this.rare.cb11 = value
    this.flags |= SKB_CB_USED
  }
  get innerTransportHeader(): number {
    return this.rare.innerTransportHeader
  }
  set innerTransportHeader(value: number) {
    this.rare.innerTransportHeader = value
  }
  get innerNetworkHeader(): number {
    return this.rare.innerNetworkHeader
  }
  set innerNetworkHeader(value: number) {
    this.rare.innerNetworkHeader = value
  }
  get innerMacHeader(): number {
    return this.rare.innerMacHeader
  }
  set innerMacHeader(value: number) {
    this.rare.innerMacHeader = value
  }
  get innerProtocol(): number {
    return this.rare.innerProtocol
  }
  set innerProtocol(value: number) {
    this.rare.innerProtocol = value
  }
  get vlanProto(): number {
    return this.rare.vlanProto
  }
  set vlanProto(value: number) {
    this.rare.vlanProto = value
  }
  get vlanTciValue(): number {
    return this.rare.vlanTciValue
  }
  set vlanTciValue(value: number) {
    this.rare.vlanTciValue = value
  }
  get markValue(): number {
    return this.rare.markValue
  }
  set markValue(value: number) {
    this.rare.markValue = value
  }
  /** Bits of the extensions in use, and the address of their block. */
  get activeExtensions(): number {
    return this.rare.activeExtensions
  }
  set activeExtensions(value: number) {
    this.rare.activeExtensions = value
  }
  get extensions(): Addr {
    return this.rare.extensions
  }
  set extensions(value: Addr) {
    this.rare.extensions = value
  }

  // The kernel's bit fields, by their names.

  get cloned(): boolean {
    return (this.flags & SKB_CLONED) !== 0
  }
  set cloned(on: boolean) {
    this.flags = on ? this.flags | SKB_CLONED : this.flags & ~SKB_CLONED
  }
  get nohdr(): boolean {
    return (this.flags & SKB_NOHDR) !== 0
  }
  set nohdr(on: boolean) {
    this.flags = on ? this.flags | SKB_NOHDR : this.flags & ~SKB_NOHDR
  }
  get fclone(): number {
    return (this.flags & SKB_FCLONE_MASK) >> SKB_FCLONE_SHIFT
  }
  set fclone(role: number) {
    this.flags = (this.flags & ~SKB_FCLONE_MASK) | (role << SKB_FCLONE_SHIFT)
  }
  get peeked(): boolean {
    return (this.flags & SKB_PEEKED) !== 0
  }
  set peeked(on: boolean) {
    this.flags = on ? this.flags | SKB_PEEKED : this.flags & ~SKB_PEEKED
  }
  get headFrag(): boolean {
    return (this.flags & SKB_HEAD_FRAG) !== 0
  }
  set headFrag(on: boolean) {
    this.flags = on ? this.flags | SKB_HEAD_FRAG : this.flags & ~SKB_HEAD_FRAG
  }
  get pfmemalloc(): boolean {
    return (this.flags & SKB_PFMEMALLOC) !== 0
  }
  set pfmemalloc(on: boolean) {
    this.flags = on ? this.flags | SKB_PFMEMALLOC : this.flags & ~SKB_PFMEMALLOC
  }
  get ppRecycle(): boolean {
    return (this.flags & SKB_PP_RECYCLE) !== 0
  }
  set ppRecycle(on: boolean) {
    this.flags = on ? this.flags | SKB_PP_RECYCLE : this.flags & ~SKB_PP_RECYCLE
  }
  get pktType(): number {
    return (this.flags & PKT_TYPE_MASK) >> PKT_TYPE_SHIFT
  }
  set pktType(type: number) {
    this.flags = (this.flags & ~PKT_TYPE_MASK) | (type << PKT_TYPE_SHIFT)
  }
  get ipSummed(): number {
    return (this.flags & SKB_IP_SUMMED_MASK) >> IP_SUMMED_SHIFT
  }
  set ipSummed(kind: number) {
    this.flags = (this.flags & ~SKB_IP_SUMMED_MASK) | (kind << IP_SUMMED_SHIFT)
  }
  get csumLevel(): number {
    return (this.flags & CSUM_LEVEL_MASK) >> CSUM_LEVEL_SHIFT
  }
  set csumLevel(level: number) {
    this.flags = (this.flags & ~CSUM_LEVEL_MASK) | (level << CSUM_LEVEL_SHIFT)
  }
  get csumValid(): boolean {
    return (this.flags & SKB_CSUM_VALID) !== 0
  }
  set csumValid(on: boolean) {
    this.flags = on ? this.flags | SKB_CSUM_VALID : this.flags & ~SKB_CSUM_VALID
  }
  get csumCompleteSw(): boolean {
    return (this.flags & SKB_CSUM_COMPLETE_SW) !== 0
  }
  set csumCompleteSw(on: boolean) {
    this.flags = on ? this.flags | SKB_CSUM_COMPLETE_SW : this.flags & ~SKB_CSUM_COMPLETE_SW
  }
  get encapsulation(): boolean {
    return (this.flags & SKB_ENCAPSULATION) !== 0
  }
  set encapsulation(on: boolean) {
    this.flags = on ? this.flags | SKB_ENCAPSULATION : this.flags & ~SKB_ENCAPSULATION
  }
  get unreadable(): boolean {
    return (this.flags & SKB_UNREADABLE) !== 0
  }
  set unreadable(on: boolean) {
    this.flags = on ? this.flags | SKB_UNREADABLE : this.flags & ~SKB_UNREADABLE
  }
  get decrypted(): boolean {
    return (this.flags & SKB_DECRYPTED) !== 0
  }
  set decrypted(on: boolean) {
    this.flags = on ? this.flags | SKB_DECRYPTED : this.flags & ~SKB_DECRYPTED
  }

  // Rare members: a flag says that they are there.

  get mark(): number {
    return (this.flags & SKB_HAS_MARK) !== 0 ? this.rare.markValue : 0
  }
  set mark(value: number) {
    this.rare.markValue = value
    this.flags |= SKB_HAS_MARK
  }
  get vlanTci(): number {
    return (this.flags & SKB_VLAN_PRESENT) !== 0 ? this.rare.vlanTciValue : 0
  }
  set vlanTci(tci: number) {
    this.rare.vlanTciValue = tci
    this.flags |= SKB_VLAN_PRESENT
  }
  /** Virtual nanoseconds; kept outside the object, where a double costs no box. */
  get tstamp(): number {
    return (this.flags & SKB_HAS_TSTAMP) !== 0 ? this.env.tstamps[this.id]! : 0
  }
  set tstamp(ns: number) {
    this.env.tstamps[this.id] = ns
    this.flags |= SKB_HAS_TSTAMP
  }
}

/** Models `skb_get`: one more holder. */
export function skbGet(skb: SkBuff): SkBuff {
  skb.users++
  return skb
}

/** Models `skb_shared`: someone else holds this skb too. */
export const skbShared = (skb: SkBuff): boolean => skb.users !== 1

/** Models `skb_is_nonlinear`: some bytes are not in the linear part. */
export const skbIsNonlinear = (skb: SkBuff): boolean => skb.dataLen !== 0

/** Models `skb_headlen`: bytes in the linear part. */
export const skbHeadlen = (skb: SkBuff): number => skb.len - skb.dataLen

/** Models `skb_headroom`: bytes before `data`. */
export const skbHeadroom = (skb: SkBuff): number => (skb.data - skb.head) | 0

/** Models `skb_tailroom`: bytes behind `tail` of a linear skb, 0 for any other. */
export const skbTailroom = (skb: SkBuff): number => (skb.dataLen !== 0 ? 0 : (skb.end - skb.tail) | 0)

/** Models `skb_end_offset`: bytes from `head` to the shared info. */
export const skbEndOffset = (skb: SkBuff): number => (skb.end - skb.head) | 0

/** Models `skb_pfmemalloc`. */
export const skbPfmemalloc = (skb: SkBuff): boolean => skb.pfmemalloc

/** Models `skb_set_hash`: sets the hash and says whether it covers the transport header. */
export function skbSetHash(skb: SkBuff, hash: number, isL4: boolean): void {
  skb.hash = hash | 0
  skb.flags = (skb.flags & ~(SKB_L4_HASH | SKB_SW_HASH)) | (isL4 ? SKB_L4_HASH : 0)
}
