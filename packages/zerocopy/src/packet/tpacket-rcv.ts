/**
 * Receiving into a ring: the packet's bytes are copied once, from the skb to the frame that the program reads,
 * and the skb is let go at once. Nothing is queued and nobody is charged.
 *
 *     V1, V2     | header 32 | sockaddr_ll 20 | pad | (virtio header) link header | packet ...      one frame
 *     V3         | header 48 | sockaddr_ll 20 | pad | (virtio header) link header | packet ...      next at 8-aligned end
 *                                                     ^ tp_mac                      ^ tp_net
 */
import type { Addr, Cpu } from '@netmem/base'
import {
  CHECKSUM_PARTIAL,
  consumeSkb,
  kfreeSkb,
  PACKET_LOOPBACK,
  PACKET_OUTGOING,
  SKB_HAS_TSTAMP,
  type SkBuff,
  skbClone,
  skbCopyBits,
  skbCsumUnnecessary,
  skbGet,
  skbHeadlen,
  skbPull,
  skbQueueTail,
} from '@netmem/skbuff'
import { skbSetOwnerR } from '@netmem/sockmem'
import type { NetDevice, PacketType } from '@netmem/virtual-nic'
import { packetLookupFrameInBlock } from './blocks.js'
import { bounceFrame, spreadFrame } from './bounce.js'
import {
  TP_STATUS_COPY,
  TP_STATUS_CSUM_VALID,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_GSO_TCP,
  TP_STATUS_LOSING,
  TP_STATUS_TS_SOFTWARE,
  TP_STATUS_USER,
  TPACKET_V3,
} from './constants.js'
import { fillHeaderV1, fillHeaderV2, fillHeaderV3, fillSockaddrLl } from './frame-header.js'
import { frameAddr, framePosition, frameStatus } from './frames.js'
import { type PacketRing, packetIncrementHead } from './packet-ring.js'
import type { PacketHook, PacketSock } from './packet-sock.js'
import { packetRcvHasRoomUnmarked, ROOM_NONE } from './room.js'
import { runFilter } from './run-filter.js'
import { skbIsGsoTcp } from './skb-status.js'
import { packetVnetHdr } from './vnet-hdr.js'

const SITE = 'tpacket_rcv'
const USHRT_MAX = 65535
/** Room in front of the link header, whatever its length. */
const LEAST_MACLEN = 16

/** Models `tpacket_rcv` (net/packet/af_packet.c). Takes the skb. */
export function tpacketRcv(cpu: Cpu, skb: SkBuff, dev: NetDevice, pt: PacketType, orig: NetDevice): number {
  const po = (pt as PacketHook).po!
  const { sk } = po
  if (skb.pktType === PACKET_LOOPBACK || dev.ns !== sk.net.id) {
    consumeSkb(cpu, skb, SITE)
    return 0
  }
  const skbHead = skb.data
  const skbLen = skb.len
  if (dev.hardHeaderLen !== 0) {
    if (!po.cooked) {
      const back = (skb.data - skb.head - skb.macHeader) | 0
      skb.data = ((skb.data - back) | 0) as Addr
      skb.len += back
    } else if (skb.pktType === PACKET_OUTGOING) skbPull(skb, (skb.head + skb.networkHeader - skb.data) | 0)
  }
  // Bytes that the kernel cannot read are not shown.
  let snaplen = skb.unreadable ? skbHeadlen(skb) : skb.len
  const res = runFilter(sk, skb, snaplen)
  if (res === 0) return restore(cpu, skb, skbHead, skbLen)
  if (packetRcvHasRoomUnmarked(po, skb) === ROOM_NONE) {
    po.tpDrops += 1
    return restore(cpu, skb, skbHead, skbLen)
  }
  let status = TP_STATUS_USER
  if (skb.ipSummed === CHECKSUM_PARTIAL) status |= TP_STATUS_CSUMNOTREADY
  else if (skb.pktType !== PACKET_OUTGOING && skbCsumUnnecessary(skb)) status |= TP_STATUS_CSUM_VALID
  if (po.env.gsoTcpStatus && skbIsGsoTcp(skb)) status |= TP_STATUS_GSO_TCP
  if (snaplen > res) snaplen = res

  // TPACKET_HDRLEN is the aligned header with the address, which the alignment rounds up once more.
  let netoff = ((po.tpHdrlen + 15) & ~15) + LEAST_MACLEN + po.tpReserve
  let macoff = netoff
  let vnet = 0
  if (!po.cooked) {
    const maclen = (skb.head + skb.networkHeader - skb.data) | 0
    netoff = ((po.tpHdrlen + Math.max(maclen, LEAST_MACLEN) + 15) & ~15) + po.tpReserve + po.vnetHdrSz
    vnet = po.vnetHdrSz
    macoff = netoff - maclen
  }
  if (netoff > USHRT_MAX) {
    po.tpDrops += 1
    return restore(cpu, skb, skbHead, skbLen)
  }
  const rb = po.rxRing
  if (po.tpVersion !== TPACKET_V3)
    return rcvIntoFrame(cpu, po, rb, skb, dev, orig, status, macoff, netoff, snaplen, vnet, skbHead, skbLen)

  const pkc = rb.kbdq!
  if (macoff + snaplen > pkc.maxFrameLen) {
    snaplen = pkc.maxFrameLen - macoff
    if (snaplen < 0) {
      snaplen = 0
      macoff = pkc.maxFrameLen
      vnet = 0
    }
  }
  const offset = packetLookupFrameInBlock(cpu, po, skb, macoff + snaplen)
  if (offset < 0) return dropAndAccount(cpu, po, skb, null, skbHead, skbLen)
  rb.block = pkc.kactiveBlkNum
  rb.offset = offset
  const h = pkc.pkblkStart !== 0 ? (((pkc.pkblkStart + offset) | 0) as Addr) : bounceFrame(po, rb, macoff + snaplen)
  if (vnet !== 0 && !packetVnetHdr(po, skb, ((h + macoff - vnet) | 0) as Addr))
    return dropAndAccount(cpu, po, skb, null, skbHead, skbLen)
  po.tpPackets = (po.tpPackets + 1) | 0
  skbCopyBits(skb, 0, ((h + macoff) | 0) as Addr, snaplen)
  fillHeaderV3(po, skb, h, stampStatus(skb, status), macoff, netoff, snaplen)
  fillSockaddrLl(po, skb, dev, orig, h)
  if (pkc.pkblkStart === 0) spreadFrame(po, rb, macoff + snaplen)
  if (po.env.mem.trace.copy !== null) po.env.mem.trace.copy(cpu, SITE, snaplen)
  return restore(cpu, skb, skbHead, skbLen)
}

/** The end of a packet that is not an error: others who hold it find it as it was. */
function restore(cpu: Cpu, skb: SkBuff, skbHead: Addr, skbLen: number): number {
  if (skb.users !== 1) {
    skb.data = skbHead
    skb.len = skbLen
  }
  consumeSkb(cpu, skb, SITE)
  return 0
}

/** Models the part of `tpacket_rcv` for rings of equal frames. */
function rcvIntoFrame(
  cpu: Cpu,
  po: PacketSock,
  rb: PacketRing,
  skb: SkBuff,
  dev: NetDevice,
  orig: NetDevice,
  flags: number,
  macoff: number,
  netoff: number,
  wanted: number,
  vnetBytes: number,
  skbHead: Addr,
  skbLen: number,
): number {
  let copy: SkBuff | null = null
  let snaplen = wanted
  let vnet = vnetBytes
  let status = flags
  let head = skbHead
  if (macoff + snaplen > rb.frameSize) {
    if (po.copyThresh !== 0 && po.sk.rmemAlloc < po.sk.rcvbuf) {
      if (skb.users !== 1) copy = skbClone(cpu, skb, po.env.mem.gfp.GFP_ATOMIC)
      else {
        copy = skbGet(skb)
        head = skb.data
      }
      if (copy !== null) ownCopy(cpu, po, copy)
    }
    snaplen = rb.frameSize - macoff
    if (snaplen < 0) {
      snaplen = 0
      vnet = 0
    }
  }
  framePosition(rb, rb.head)
  if (frameStatus(po, rb) !== 0 || rb.head === rb.stuck) return dropAndAccount(cpu, po, skb, copy, head, skbLen)
  const extent = Math.min(macoff + snaplen, rb.frameSize)
  const h = rb.vec!.scattered ? bounceFrame(po, rb, extent) : frameAddr(rb, 0)
  if (vnet !== 0 && !packetVnetHdr(po, skb, ((h + macoff - vnet) | 0) as Addr)) {
    // The kernel has marked the slot as being filled and forgets to unmark it: the ring stops here.
    rb.stuck = rb.head
    return dropAndAccount(cpu, po, skb, copy, head, skbLen)
  }
  packetIncrementHead(rb)
  if (po.tpDrops !== 0) status |= TP_STATUS_LOSING
  po.tpPackets = (po.tpPackets + 1) | 0
  if (copy !== null) {
    status |= TP_STATUS_COPY
    queueCopy(po, copy)
  }
  skbCopyBits(skb, 0, ((h + macoff) | 0) as Addr, snaplen)
  status = stampStatus(skb, status)
  if (po.tpVersion === 0) fillHeaderV1(po, skb, h, status, macoff, netoff, snaplen)
  else fillHeaderV2(po, skb, h, status, macoff, netoff, snaplen)
  fillSockaddrLl(po, skb, dev, orig, h)
  if (rb.vec!.scattered) spreadFrame(po, rb, extent)
  if (po.env.mem.trace.copy !== null) po.env.mem.trace.copy(cpu, SITE, snaplen)
  po.sk.dataReady(cpu, po.sk)
  if (head !== skb.data && skb.users !== 1) {
    skb.data = head
    skb.len = skbLen
  }
  consumeSkb(cpu, skb, SITE)
  return 0
}

// Cold path.

/** A cut packet is also queued whole; the address that `recv` gives with it is empty. */
function ownCopy(cpu: Cpu, po: PacketSock, copy: SkBuff): void {
  copy.cb0 = 0
  copy.cb1 = 0
  copy.cb2 = 0
  copy.cb3 = 0
  copy.cb4 = 0
  skbSetOwnerR(cpu, copy, po.sk)
}

function queueCopy(po: PacketSock, copy: SkBuff): void {
  skbQueueTail(po.sk.receiveQueue, copy)
}

/** A time that the packet already has is shown as such. */
function stampStatus(skb: SkBuff, status: number): number {
  return (skb.flags & SKB_HAS_TSTAMP) === 0 || skb.tstamp === 0 ? status : status | TP_STATUS_TS_SOFTWARE
}

function dropAndAccount(
  cpu: Cpu,
  po: PacketSock,
  skb: SkBuff,
  copy: SkBuff | null,
  skbHead: Addr,
  skbLen: number,
): number {
  po.tpDrops += 1
  po.sk.dataReady(cpu, po.sk)
  if (copy !== null) kfreeSkb(cpu, copy, po.env.noRoom, SITE, po.sk.id)
  if (skbHead !== skb.data && skb.users !== 1) {
    skb.data = skbHead
    skb.len = skbLen
  }
  kfreeSkb(cpu, skb, po.env.noRoom, SITE, po.sk.id)
  return 0
}
