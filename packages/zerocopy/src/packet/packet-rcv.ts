/**
 * Receiving without a ring: the packet itself waits in the socket's queue, charged to it, and the program reads it
 * with `recvmsg`. Who else holds the packet keeps it; the socket then queues a clone.
 */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import { copyToIter } from '@netmem/memory'
import {
  CHECKSUM_PARTIAL,
  consumeSkb,
  kfreeSkb,
  PACKET_LOOPBACK,
  PACKET_OUTGOING,
  pskbTrim,
  SKB_VLAN_PRESENT,
  type SkBuff,
  skbClone,
  skbCopyDatagramIter,
  skbCsumUnnecessary,
  skbHeadlen,
  skbPull,
  skbQueueTail,
} from '@netmem/skbuff'
import {
  AF_PACKET,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSG_PEEK,
  MSG_TRUNC,
  type Msg,
  type PeekOffset,
  putCmsg,
  type Sock,
  skbRecvDatagram,
  skbSetOwnerR,
  sockSkbSetDropcount,
} from '@netmem/sockmem'
import {
  type NetDevice,
  type PacketType,
  VIRTIO_NET_HDR_BYTES,
  virtioNetHdrFromSkb,
  virtioNetHdrWrite,
} from '@netmem/virtual-nic'
import {
  PACKET_AUXDATA,
  SOL_PACKET,
  TP_STATUS_CSUM_VALID,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_GSO_TCP,
  TP_STATUS_USER,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
} from './constants.js'
import { type PacketHook, type PacketSock, pktSk } from './packet-sock.js'
import { packetRcvTryClearPressure } from './room.js'
import { runFilter } from './run-filter.js'
import { dgramVlan, protocolShown, skbIsGsoTcp, VLAN_TCI_UNKNOWN } from './skb-status.js'

const SITE = 'packet_rcv'

// The control block of a queued packet: cb0 the whole length, cb1 type, packet type and address length, cb2 the
// interface, cb3 and cb4 the address.

/** Models `packet_rcv` (net/packet/af_packet.c). Takes the skb. */
export function packetRcv(cpu: Cpu, packet: SkBuff, dev: NetDevice, pt: PacketType, orig: NetDevice): number {
  const po = (pt as PacketHook).po!
  const { sk } = po
  let skb = packet
  if (skb.pktType === PACKET_LOOPBACK || dev.ns !== sk.net.id) {
    consumeSkb(cpu, skb, SITE)
    return 0
  }
  const skbHead = skb.data
  const skbLen = skb.len
  skb.dev = dev.id
  if (dev.hardHeaderLen !== 0) {
    if (!po.cooked) {
      const back = (skb.data - skb.head - skb.macHeader) | 0
      skb.data = ((skb.data - back) | 0) as Addr
      skb.len += back
    } else if (skb.pktType === PACKET_OUTGOING) skbPull(skb, (skb.head + skb.networkHeader - skb.data) | 0)
  }
  let snaplen = skb.unreadable ? skbHeadlen(skb) : skb.len
  const res = runFilter(sk, skb, snaplen)
  if (res === 0) return end(cpu, po, skb, skbHead, skbLen, false)
  if (snaplen > res) snaplen = res
  if (sk.rmemAlloc >= sk.rcvbuf) return end(cpu, po, skb, skbHead, skbLen, true)
  if (skb.users !== 1) {
    const clone = skbClone(cpu, skb, po.env.mem.gfp.GFP_ATOMIC)
    if (clone === null) return end(cpu, po, skb, skbHead, skbLen, true)
    skb.data = skbHead
    skb.len = skbLen
    consumeSkb(cpu, skb, SITE)
    skb = clone
  }
  fillCb(po, skb, dev, orig)
  if (pskbTrim(cpu, skb, snaplen) !== 0) return end(cpu, po, skb, skb.data, skb.len, true)
  skbSetOwnerR(cpu, skb, sk)
  skb.dev = 0
  skb.refdst = 0
  po.tpPackets = (po.tpPackets + 1) | 0
  sockSkbSetDropcount(sk, skb)
  skbQueueTail(sk.receiveQueue, skb)
  sk.dataReady(cpu, sk)
  return 0
}

/** The packet is not for this socket, or there is no room for it. */
function end(cpu: Cpu, po: PacketSock, skb: SkBuff, skbHead: Addr, skbLen: number, dropped: boolean): number {
  if (dropped) {
    po.tpDrops += 1
    po.sk.drops += 1
  }
  if (skb.users !== 1) {
    skb.data = skbHead
    skb.len = skbLen
  }
  if (dropped) kfreeSkb(cpu, skb, po.env.noRoom, SITE, po.sk.id)
  else consumeSkb(cpu, skb, SITE)
  return 0
}

function fillCb(po: PacketSock, skb: SkBuff, dev: NetDevice, orig: NetDevice): void {
  const { dv } = po.env.mem
  skb.cb0 = skb.len
  skb.cb2 = po.origdev ? orig.id : dev.id
  skb.cb3 = 0
  skb.cb4 = 0
  let halen = 0
  if (dev.hardHeaderLen !== 0) {
    const mac = ((skb.head + skb.macHeader) >>> 0) + 6
    halen = 6
    skb.cb3 = dv.getInt32(mac)
    skb.cb4 = dv.getUint16(mac + 4) << 16
  }
  skb.cb1 = dev.type | (skb.pktType << 16) | (halen << 24)
}

// What the program does.

const peek: PeekOffset = { offset: -1 }

/** Models `packet_recvmsg` (net/packet/af_packet.c). @returns bytes; with MSG_TRUNC the packet's whole length. */
export function packetRecvmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  if ((flags & ~(MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_ERRQUEUE)) !== 0) return -ERRNO.EINVAL
  // Transmit time stamps are the only errors that a packet socket could queue, and nobody asks for them here.
  if ((flags & MSG_ERRQUEUE) !== 0) return -ERRNO.EAGAIN
  const po = pktSk(sk)
  peek.offset = -1
  const skb = skbRecvDatagram(sk, flags, peek)
  if (skb === null) return sk.env.lastError
  packetRcvTryClearPressure(po)
  const ret = deliver(cpu, po, msg, len, flags, skb)
  consumeSkb(cpu, skb, 'packet_recvmsg')
  return ret
}

function deliver(cpu: Cpu, po: PacketSock, msg: Msg, len: number, flags: number, skb: SkBuff): number {
  let room = len
  if (po.vnetHdrSz !== 0) {
    const err = packetRcvVnet(cpu, po, msg, skb, room)
    if (err < 0) return err
    room -= po.vnetHdrSz
  }
  let copied = skb.len
  if (copied > room) {
    copied = room
    msg.msgFlags |= MSG_TRUNC
  }
  const err = skbCopyDatagramIter(cpu, skb, 0, msg.iter, copied)
  if (err < 0) return err
  const { name } = msg
  if (msg.wantName) {
    name.clear()
    name.family = AF_PACKET
    name.protocol = protocolShown(po, skb)
    name.ifindex = skb.cb2
    name.hatype = skb.cb1 & 0xffff
    name.pkttype = (skb.cb1 >> 16) & 0xff
    name.halen = skb.cb1 >>> 24
    for (let i = 0; i < 8; i++) name.hwAddr[i] = (i < 4 ? skb.cb3 >>> (24 - 8 * i) : skb.cb4 >>> (56 - 8 * i)) & 0xff
  }
  if (po.auxdata) putAuxdata(po, msg, skb)
  return po.vnetHdrSz + ((flags & MSG_TRUNC) !== 0 ? skb.len : copied)
}

/** Models `packet_rcv_vnet`. The bytes that the longer header has more are left as they are in the buffer. */
function packetRcvVnet(cpu: Cpu, po: PacketSock, msg: Msg, skb: SkBuff, room: number): number {
  if (room < po.vnetHdrSz) return -ERRNO.EINVAL
  const { env } = po
  if (virtioNetHdrFromSkb(skb, env.vnet, 0) !== 0) return -ERRNO.EINVAL
  virtioNetHdrWrite(env.vnet, env.mem.dv, po.scratch >>> 0)
  env.mem.dv.setUint16((po.scratch >>> 0) + VIRTIO_NET_HDR_BYTES, 0)
  if (copyToIter(env.mem, cpu, po.scratch, po.vnetHdrSz, msg.iter) !== po.vnetHdrSz) return -ERRNO.EFAULT
  return 0
}

/** The control message PACKET_AUXDATA: status, lengths, offsets, tag, as seven numbers. */
function putAuxdata(po: PacketSock, msg: Msg, skb: SkBuff): void {
  let status = TP_STATUS_USER
  if (skb.ipSummed === CHECKSUM_PARTIAL) status |= TP_STATUS_CSUMNOTREADY
  else if (skb.pktType !== PACKET_OUTGOING && skbCsumUnnecessary(skb)) status |= TP_STATUS_CSUM_VALID
  if (po.env.gsoTcpStatus && skbIsGsoTcp(skb)) status |= TP_STATUS_GSO_TCP
  let tci = 0
  let tpid = 0
  if ((skb.flags & SKB_VLAN_PRESENT) !== 0) {
    tci = skb.vlanTci
    tpid = skb.vlanProto
    status |= TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID
  } else {
    const cooked = po.cooked ? dgramVlan(po, skb) : VLAN_TCI_UNKNOWN
    if (cooked !== VLAN_TCI_UNKNOWN) {
      tci = cooked
      tpid = skb.protocol
      status |= TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID
    }
  }
  const net = (skb.head + skb.networkHeader - skb.data) & 0xffff
  putCmsg(msg, SOL_PACKET, PACKET_AUXDATA, status, [status, skb.cb0, skb.len, 0, net, tci, tpid])
}
