/** What a copy of an skb takes over besides the bytes: everything that describes the packet, nothing that owns it. */
import { skbExtShare } from './extensions.js'
import { gsoSegs, gsoSize, gsoType, setGsoSegs, setGsoSize, setGsoType } from './shared-info.js'
import {
  CHECKSUM_PARTIAL,
  SKB_CB_USED,
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
import { copySkbCb } from './sk-buff-rare.js'

/** What few packets carry: the members that a flag guards, and the route. */
export function copyRareFields(n: SkBuff, skb: SkBuff): void {
  if (skb.refdst !== 0) skb.env.slots.dstClone(skb.refdst)
  const to = n.rare
  const from = skb.rare
  to.vlanProto = from.vlanProto
  to.vlanTciValue = from.vlanTciValue
  to.markValue = from.markValue
  to.innerTransportHeader = from.innerTransportHeader
  to.innerNetworkHeader = from.innerNetworkHeader
  to.innerMacHeader = from.innerMacHeader
  to.innerProtocol = from.innerProtocol
  if ((skb.flags & SKB_HAS_TSTAMP) !== 0) skb.env.tstamps[n.id] = skb.env.tstamps[skb.id]!
  if ((skb.flags & SKB_HAS_EXTENSIONS) !== 0) skbExtShare(n, skb)
}

/** The union of `csum` and `csum_start`/`csum_offset`: means something only while `ipSummed` is not `CHECKSUM_NONE`. */
export function copyChecksum(n: SkBuff, skb: SkBuff): void {
  n.csum = skb.csum
  n.rare.csumStart = skb.rare.csumStart
  n.rare.csumOffset = skb.rare.csumOffset
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
  copyChecksum(n, old)
  n.skbIif = old.skbIif
  if ((old.flags & SKB_CB_USED) !== 0) copySkbCb(n.rare, old.rare)
  if ((old.flags & SKB_RARE_MASK) !== 0 || old.refdst !== 0) copyRareFields(n, old)
  if (((n.flags | old.flags) & SKB_SHINFO_USED) === 0) return
  setGsoSize(n, gsoSize(old))
  setGsoSegs(n, gsoSegs(old))
  setGsoType(n, gsoType(old))
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
