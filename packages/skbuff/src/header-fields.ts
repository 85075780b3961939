/** What a copy of an skb takes over besides the bytes: everything that describes the packet, nothing that owns it. */
import { skbExtShare } from './extensions.js'
import { SHINFO_GSO_TYPE_WORD, SHINFO_GSO_WORD } from './shared-info.js'
import {
  CHECKSUM_PARTIAL,
  SKB_CLONED,
  SKB_FCLONE_MASK,
  SKB_HAS_EXTENSIONS,
  SKB_HAS_TSTAMP,
  SKB_HEAD_FRAG,
  SKB_HEADER_UNSET,
  SKB_NOHDR,
  SKB_PEEKED,
  SKB_PFMEMALLOC,
  SKB_PP_RECYCLE,
  SKB_RARE_MASK,
  SKB_SHINFO_USED,
  type SkBuff,
} from './sk-buff.js'

/** What few packets carry: the members that a flag guards, and the route. */
export function copyRareFields(n: SkBuff, skb: SkBuff): void {
  if (skb.refdst !== 0) skb.env.slots.dstClone(skb.refdst)
  n.vlanProto = skb.vlanProto
  n.vlanTciValue = skb.vlanTciValue
  n.markValue = skb.markValue
  n.innerTransportHeader = skb.innerTransportHeader
  n.innerNetworkHeader = skb.innerNetworkHeader
  n.innerMacHeader = skb.innerMacHeader
  n.innerProtocol = skb.innerProtocol
  if ((skb.flags & SKB_HAS_TSTAMP) !== 0) skb.env.tstamps[n.id] = skb.env.tstamps[skb.id]!
  if ((skb.flags & SKB_HAS_EXTENSIONS) !== 0) skbExtShare(n, skb)
}

/** Models `__copy_skb_header`/`skb_copy_header` (net/core/skbuff.c): everything but data, owner and links. */
export function skbCopyHeader(n: SkBuff, old: SkBuff): void {
  const kept =
    SKB_CLONED |
    SKB_NOHDR |
    SKB_FCLONE_MASK |
    SKB_PEEKED |
    SKB_SHINFO_USED |
    SKB_HEAD_FRAG |
    SKB_PFMEMALLOC |
    SKB_PP_RECYCLE
  n.flags = (n.flags & kept) | (old.flags & ~kept)
  n.dev = old.dev
  n.refdst = old.refdst
  n.protocol = old.protocol
  n.transportHeader = old.transportHeader
  n.networkHeader = old.networkHeader
  n.macHeader = old.macHeader
  n.queueMapping = old.queueMapping
  n.priority = old.priority
  n.hash = old.hash
  n.allocCpu = old.allocCpu
  n.macLen = old.macLen
  n.csum = old.csum
  n.csumStart = old.csumStart
  n.csumOffset = old.csumOffset
  n.skbIif = old.skbIif
  n.cb0 = old.cb0
  n.cb1 = old.cb1
  n.cb2 = old.cb2
  n.cb3 = old.cb3
  n.cb4 = old.cb4
  n.cb5 = old.cb5
  n.cb6 = old.cb6
  n.cb7 = old.cb7
  n.cb8 = old.cb8
  n.cb9 = old.cb9
  n.cb10 = old.cb10
  n.cb11 = old.cb11
  if ((old.flags & SKB_RARE_MASK) !== 0 || old.refdst !== 0) copyRareFields(n, old)
  const words = n.env.i32
  words[(n.end >>> 2) + SHINFO_GSO_WORD] = words[(old.end >>> 2) + SHINFO_GSO_WORD]!
  words[(n.end >>> 2) + SHINFO_GSO_TYPE_WORD] = words[(old.end >>> 2) + SHINFO_GSO_TYPE_WORD]!
}

/** Models `skb_headers_offset_update`: the headers moved `bytes` away from `head`. */
export function skbHeadersOffsetUpdate(skb: SkBuff, bytes: number): void {
  if (skb.ipSummed === CHECKSUM_PARTIAL) skb.csumStart += bytes
  // The kernel lets an unset transport header wrap; it stays unset here.
  if (skb.transportHeader !== SKB_HEADER_UNSET) skb.transportHeader += bytes
  skb.networkHeader += bytes
  if (skb.macHeader !== SKB_HEADER_UNSET) skb.macHeader += bytes
  skb.innerTransportHeader += bytes
  skb.innerNetworkHeader += bytes
  skb.innerMacHeader += bytes
}
