/** Options of packet sockets. Each has its own rule for the length that it takes, and for sockets with rings. */
import { type Cpu, ERRNO, NULL } from '@netmem/base'
import { kmalloc } from '@netmem/memory'
import { type OptVal, SOCK_RAW } from '@netmem/sockmem'
import { VIRTIO_NET_HDR_BYTES } from '@netmem/virtual-nic'
import * as opt from './constants.js'
import { fanoutAdd, fanoutSetData } from './fanout.js'
import { MAX_ADDR_LEN, type PacketMreq, packetMcAdd, packetMcDrop } from './mclist.js'
import type { PacketSock } from './packet-sock.js'
import { packetSetRing, type TpacketReq } from './set-ring.js'

const INT_BYTES = 4
const REQ_BYTES = 16
const REQ3_BYTES = 28
const MREQ_BYTES = 16
const MREQ_ADDRESS = 8
const FANOUT_ARGS_BYTES = 8
/** `sizeof(struct virtio_net_hdr_mrg_rxbuf)`. */
const MRG_RXBUF_BYTES = 12

const hasRing = (po: PacketSock): boolean => po.rxRing.vec !== null || po.txRing.vec !== null

/** Models `packet_setsockopt` (net/packet/af_packet.c). Values wider than a number are in `val.words`. */
export function packetSetsockopt(cpu: Cpu, po: PacketSock, level: number, name: number, val: OptVal): number {
  if (level !== opt.SOL_PACKET) return -ERRNO.ENOPROTOOPT
  const value = val.int
  const exact = val.len === INT_BYTES
  switch (name) {
    case opt.PACKET_ADD_MEMBERSHIP:
    case opt.PACKET_DROP_MEMBERSHIP:
      return membership(cpu, po, name === opt.PACKET_ADD_MEMBERSHIP, val)
    case opt.PACKET_RX_RING:
    case opt.PACKET_TX_RING:
      if (val.len < (po.tpVersion === opt.TPACKET_V3 ? REQ3_BYTES : REQ_BYTES)) return -ERRNO.EINVAL
      return packetSetRing(cpu, po, tpacketReq(po, val), false, name === opt.PACKET_TX_RING)
    case opt.PACKET_COPY_THRESH:
      if (!exact) return -ERRNO.EINVAL
      po.copyThresh = value
      return 0
    case opt.PACKET_VERSION:
      if (!exact || value < opt.TPACKET_V1 || value > opt.TPACKET_V3) return -ERRNO.EINVAL
      if (hasRing(po)) return -ERRNO.EBUSY
      po.tpVersion = value
      return 0
    case opt.PACKET_RESERVE:
      // Unsigned, up to INT_MAX.
      if (!exact || value < 0) return -ERRNO.EINVAL
      if (hasRing(po)) return -ERRNO.EBUSY
      po.tpReserve = value
      return 0
    case opt.PACKET_LOSS:
      if (!exact) return -ERRNO.EINVAL
      if (hasRing(po)) return -ERRNO.EBUSY
      po.tpLoss = value !== 0
      return 0
    case opt.PACKET_AUXDATA:
      if (val.len < INT_BYTES) return -ERRNO.EINVAL
      po.auxdata = value !== 0
      return 0
    case opt.PACKET_ORIGDEV:
      if (val.len < INT_BYTES) return -ERRNO.EINVAL
      po.origdev = value !== 0
      return 0
    case opt.PACKET_VNET_HDR:
      return setVnetHdr(cpu, po, val, value !== 0 ? VIRTIO_NET_HDR_BYTES : 0)
    case opt.PACKET_VNET_HDR_SZ:
      if (!po.env.socks.profile.features.packetVnetHdrSz) return -ERRNO.ENOPROTOOPT
      return setVnetHdr(cpu, po, val, value)
    case opt.PACKET_TIMESTAMP:
      if (!exact) return -ERRNO.EINVAL
      po.tpTstamp = value
      return 0
    case opt.PACKET_FANOUT: {
      if (!exact && val.len !== FANOUT_ARGS_BYTES) return -ERRNO.EINVAL
      const word = exact ? value : val.words[0]!
      return fanoutAdd(cpu, po, word & 0xffff, word >>> 16, exact ? 0 : val.words[1]! >>> 0)
    }
    case opt.PACKET_FANOUT_DATA:
      return po.fanout === null ? -ERRNO.EINVAL : fanoutSetData(po, val.program)
    case opt.PACKET_IGNORE_OUTGOING:
      if (!exact || value < 0 || value > 1) return -ERRNO.EINVAL
      po.hook.ignoreOutgoing = value === 1
      return 0
    case opt.PACKET_TX_HAS_OFF:
      if (!exact) return -ERRNO.EINVAL
      if (!hasRing(po)) po.tpTxHasOff = value !== 0
      return 0
    case opt.PACKET_QDISC_BYPASS:
      if (!exact) return -ERRNO.EINVAL
      po.qdiscBypass = value !== 0
      return 0
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

function tpacketReq(po: PacketSock, val: OptVal): TpacketReq {
  const [blockSize, blockNr, frameSize, frameNr, tov, priv, feature] = val.words
  const v3 = po.tpVersion === opt.TPACKET_V3
  return {
    blockSize: blockSize! >>> 0,
    blockNr: blockNr! >>> 0,
    frameSize: frameSize! >>> 0,
    frameNr: frameNr! >>> 0,
    retireBlkTov: v3 ? tov! >>> 0 : 0,
    sizeofPriv: v3 ? priv! >>> 0 : 0,
    featureReqWord: v3 ? feature! : 0,
  }
}

function membership(cpu: Cpu, po: PacketSock, add: boolean, val: OptVal): number {
  if (val.len < MREQ_BYTES) return -ERRNO.EINVAL
  const alen = val.words[1]! >>> 16
  const len = Math.min(val.len, MREQ_ADDRESS + MAX_ADDR_LEN)
  if (len < alen + MREQ_ADDRESS) return -ERRNO.EINVAL
  const address = new Uint8Array(MAX_ADDR_LEN)
  for (let i = 0; i < alen; i++) address[i] = val.words[2 + (i >> 2)]! >> ((i & 3) * 8)
  const mreq: PacketMreq = { ifindex: val.words[0]!, type: val.words[1]! & 0xffff, alen, address }
  return add ? packetMcAdd(cpu, po, mreq) : packetMcDrop(cpu, po, mreq)
}

function setVnetHdr(cpu: Cpu, po: PacketSock, val: OptVal, bytes: number): number {
  if (po.sk.type !== SOCK_RAW || val.len < INT_BYTES) return -ERRNO.EINVAL
  if (bytes !== 0 && bytes !== VIRTIO_NET_HDR_BYTES && bytes !== MRG_RXBUF_BYTES) return -ERRNO.EINVAL
  if (hasRing(po)) return -ERRNO.EBUSY
  // The kernel has its stack for this.
  if (bytes !== 0 && po.scratch === NULL)
    po.scratch = kmalloc(po.env.mem, cpu, MRG_RXBUF_BYTES, po.env.mem.gfp.GFP_KERNEL, 'packet_setsockopt')
  if (bytes !== 0 && po.scratch === NULL) return -ERRNO.ENOMEM
  po.vnetHdrSz = bytes
  return 0
}

/** Models `packet_getsockopt`: fills `val.int`, or `val.words` for what is wider, and cuts `val.len`. */
export function packetGetsockopt(po: PacketSock, level: number, name: number, val: OptVal): number {
  if (level !== opt.SOL_PACKET) return -ERRNO.ENOPROTOOPT
  if (val.len < 0) return -ERRNO.EINVAL
  const { features } = po.env.socks.profile
  switch (name) {
    case opt.PACKET_STATISTICS:
      return statistics(po, val)
    case opt.PACKET_AUXDATA:
      return answer(val, po.auxdata ? 1 : 0)
    case opt.PACKET_ORIGDEV:
      return answer(val, po.origdev ? 1 : 0)
    case opt.PACKET_VNET_HDR:
      return answer(val, po.vnetHdrSz !== 0 ? 1 : 0)
    case opt.PACKET_VNET_HDR_SZ:
      return features.packetVnetHdrSz ? answer(val, po.vnetHdrSz) : -ERRNO.ENOPROTOOPT
    case opt.PACKET_COPY_THRESH:
      return features.packetVnetHdrSz ? answer(val, po.copyThresh) : -ERRNO.ENOPROTOOPT
    case opt.PACKET_VERSION:
      return answer(val, po.tpVersion)
    case opt.PACKET_HDRLEN:
      if (val.len < INT_BYTES || val.int < opt.TPACKET_V1 || val.int > opt.TPACKET_V3) return -ERRNO.EINVAL
      return answer(val, opt.TPACKET_HDR_BYTES[val.int]!)
    case opt.PACKET_RESERVE:
      return answer(val, po.tpReserve)
    case opt.PACKET_LOSS:
      return answer(val, po.tpLoss ? 1 : 0)
    case opt.PACKET_TIMESTAMP:
      return answer(val, po.tpTstamp)
    case opt.PACKET_FANOUT: {
      const f = po.fanout
      return answer(val, f === null ? 0 : f.id | (f.type << 16) | (f.flags << 24))
    }
    case opt.PACKET_IGNORE_OUTGOING:
      return answer(val, po.hook.ignoreOutgoing ? 1 : 0)
    case opt.PACKET_ROLLOVER_STATS:
      if (po.rollover === null) return -ERRNO.EINVAL
      return answerWords(val, [po.rollover.num, 0, po.rollover.numHuge, 0, po.rollover.numFailed, 0])
    case opt.PACKET_TX_HAS_OFF:
      return answer(val, po.tpTxHasOff ? 1 : 0)
    case opt.PACKET_QDISC_BYPASS:
      return answer(val, po.qdiscBypass ? 1 : 0)
    default:
      return -ERRNO.ENOPROTOOPT
  }
}

/** Packets count the dropped ones too; reading starts both again. */
function statistics(po: PacketSock, val: OptVal): number {
  const words = [(po.tpPackets + po.tpDrops) | 0, po.tpDrops]
  if (po.tpVersion === opt.TPACKET_V3) words.push(po.tpFreezeQCnt)
  po.tpPackets = 0
  po.tpDrops = 0
  po.tpFreezeQCnt = 0
  return answerWords(val, words)
}

function answer(val: OptVal, value: number): number {
  val.int = value
  val.words[0] = value
  val.len = Math.min(val.len, INT_BYTES)
  return 0
}

function answerWords(val: OptVal, words: readonly number[]): number {
  words.forEach((word, i) => {
    val.words[i] = word
  })
  val.int = words[0]!
  val.len = Math.min(val.len, words.length * INT_BYTES)
  return 0
}
