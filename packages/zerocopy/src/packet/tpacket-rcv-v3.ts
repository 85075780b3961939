/**
 * The usual packet of a V3 ring by hand: a raw socket without filter, a whole packet in one piece, room in the block
 * being filled. The same stores as `tpacketRcv` and the same order; whatever is unusual goes there (`packet.v3.64B` shows
 * what it saves).
 */
import type { Addr, Cpu } from '@netmem/base'
import { type Memory, memcpy } from '@netmem/memory'
import {
  CHECKSUM_NONE,
  consumeSkb,
  PACKET_LOOPBACK,
  SKB_HAS_TSTAMP,
  SKB_UNREADABLE,
  SKB_VLAN_PRESENT,
  type SkBuff,
} from '@netmem/skbuff'
import { AF_PACKET } from '@netmem/sockmem'
import type { NetDevice, PacketType } from '@netmem/virtual-nic'
import { BD, H3, TP_STATUS_USER } from './constants.js'
import type { PacketHook } from './packet-sock.js'
import { tpacketRcv } from './tpacket-rcv.js'

const SITE = 'tpacket_rcv'
const UNUSUAL = SKB_HAS_TSTAMP | SKB_UNREADABLE | SKB_VLAN_PRESENT
const ETH_HLEN = 14
const HEADER_BYTES = 48
/** Header, address and 16 bytes for the link header, aligned: where the packet behind an Ethernet header starts. */
const NET_OFFSET = 96
const ETH_HALEN = 6 << 24
/** Up to this many bytes a loop over words beats a call. */
const SMALL_COPY_BYTES = 128

/** Models `tpacket_rcv` (net/packet/af_packet.c) for V3. Takes the skb. */
export function tpacketRcvV3(cpu: Cpu, skb: SkBuff, dev: NetDevice, pt: PacketType, orig: NetDevice): number {
  const po = (pt as PacketHook).po!
  const pkc = po.rxRing.kbdq!
  const start = pkc.pkblkStart
  const mac = skb.macHeader
  const netoff = NET_OFFSET + po.tpReserve
  const macoff = netoff - ETH_HLEN
  const len = skb.len + ((skb.data - skb.head - mac) | 0)
  const offset = pkc.nxtOffset
  const total = (macoff + len + 7) & ~7
  if (
    start === 0 ||
    !pkc.plain ||
    !po.plainRaw ||
    po.sk.filter !== null ||
    (skb.flags & UNUSUAL) !== 0 ||
    skb.dataLen !== 0 ||
    skb.ipSummed !== CHECKSUM_NONE ||
    skb.networkHeader - mac !== ETH_HLEN ||
    offset + total >= pkc.kblkSize ||
    macoff + len > pkc.maxFrameLen ||
    dev !== orig ||
    dev.hardHeaderLen !== ETH_HLEN ||
    dev.ns !== pt.ns ||
    skb.pktType === PACKET_LOOPBACK
  )
    return tpacketRcv(cpu, skb, dev, pt, orig)
  const { env } = po
  const { mem } = env
  const { i32 } = mem
  // No room: neither the block a quarter of the ring ahead nor this one.
  if (i32[pkc.aheadStatusWord] !== 0 && i32[(start + BD.status) >>> 2] !== 0) return tpacketRcv(cpu, skb, dev, pt, orig)

  pkc.prev = offset
  pkc.nxtOffset = offset + total
  const bd = start >>> 2
  i32[bd + (BD.blkLen >> 2)]! += total
  i32[bd + (BD.numPkts >> 2)]! += 1
  po.tpPackets = (po.tpPackets + 1) | 0

  const h = (start + offset) | 0
  const from = (skb.head + mac) | 0
  const to = (h + macoff) | 0
  if (len <= SMALL_COPY_BYTES && (to & from & 3) === 2 && ((to ^ from) & 3) === 0)
    copyPacket(mem, to >>> 0, from >>> 0, len)
  else memcpy(mem, to as Addr, from as Addr, len)
  env.stamp()
  const at = h >>> 2
  i32[at] = total
  i32[at + (H3.sec >> 2)] = env.sec
  i32[at + (H3.nsec >> 2)] = env.nsec
  i32[at + (H3.snaplen >> 2)] = len
  i32[at + (H3.len >> 2)] = len
  i32[at + (H3.status >> 2)] = TP_STATUS_USER
  i32[at + (H3.mac >> 2)] = macoff | (netoff << 16)
  i32[at + (H3.rxhash >> 2)] = 0
  i32[at + (H3.tci >> 2)] = 0
  i32[at + (H3.tpid >> 2)] = 0
  i32[at + (H3.padding >> 2)] = 0
  i32[at + (H3.padding >> 2) + 1] = 0

  const sll = at + (HEADER_BYTES >> 2)
  const proto = skb.protocol
  const { dv } = mem
  i32[sll] = AF_PACKET | ((proto >> 8) << 16) | ((proto & 0xff) << 24)
  i32[sll + 1] = dev.id
  i32[sll + 2] = dev.type | (skb.pktType << 16) | ETH_HALEN
  const source = (from >>> 0) + 6
  i32[sll + 3] = dv.getInt32(source, true)
  dv.setUint16(((sll + 4) << 2) >>> 0, dv.getUint16(source + 4, true), true)
  if (mem.trace.copy !== null) mem.trace.copy(cpu, SITE, len)
  consumeSkb(cpu, skb, SITE)
  return 0
}

/** Copies few bytes that lie alike in their words: frames begin two bytes after one, here and there. */
function copyPacket(mem: Memory, to: number, from: number, bytes: number): void {
  const { i32, u16, u8 } = mem
  u16[to >>> 1] = u16[from >>> 1]!
  let dst = (to + 2) >>> 2
  let src = (from + 2) >>> 2
  const end = src + ((bytes - 2) >> 2)
  while (src < end) i32[dst++] = i32[src++]!
  for (let left = (bytes - 2) & 3; left > 0; left--) u8[to + bytes - left] = u8[from + bytes - left]!
}
