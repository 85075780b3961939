/**
 * Sending from a ring: the packet's payload stays in the frame that the program wrote, and the skb points to its
 * pages. The frame comes back to the program when the last holder of the packet lets go.
 *
 *     AVAILABLE -> (program) SEND_REQUEST -> (kernel) SENDING -> (destructor) AVAILABLE
 *                                    \-> WRONG_FORMAT, and the call fails; with PACKET_LOSS the frame is skipped
 *
 * Every word of a frame may be nonsense: lengths and offsets are checked where the kernel checks them.
 */
import { type Cpu, ERRNO, type Pfn } from '@netmem/base'
import { getPage } from '@netmem/memory'
import {
  destructorArg,
  kfreeSkb,
  nrFrags,
  type SkBuff,
  skbFillPageDesc,
  skbPush,
  skbPut,
  skbReserve,
  skbResetNetworkHeader,
  skbZcopyInit,
  ubufIndex,
  ubufOf,
} from '@netmem/skbuff'
import { type Msg, SOCK_RAW, type Sock, sockAllocSendSkb, sockWfree } from '@netmem/sockmem'
import { IFF_UP, type NetDevice, virtioNetHdrToSkb } from '@netmem/virtual-nic'
import {
  H1,
  H2,
  H3,
  SOCKADDR_LL_BYTES,
  SOF_TIMESTAMPING_SOFTWARE,
  TP_STATUS_AVAILABLE,
  TP_STATUS_SEND_REQUEST,
  TP_STATUS_SENDING,
  TP_STATUS_TS_SOFTWARE,
  TP_STATUS_WRONG_FORMAT,
  TPACKET_V1,
  TPACKET_V3,
} from './constants.js'
import { frameAddr, framePosition, frameStatus, setFrameStatus, setFrameTime } from './frames.js'
import { type PacketRing, packetIncrementHead } from './packet-ring.js'
import {
  devHardHeader,
  llReservedSpace,
  own,
  type PacketDest,
  packetExtraVlanLenAllowed,
  packetParseHeaders,
  packetXmit,
  VLAN_HLEN,
  xmitErrno,
} from './packet-snd.js'
import { type PacketEnv, type PacketSock, pktSk } from './packet-sock.js'
import { packetSndVnetParse } from './vnet-hdr.js'

const SITE = 'tpacket_snd'
const PAGE_SIZE = 4096

/** Models `tpacket_snd` (net/packet/af_packet.c) for callers that do not wait. @returns bytes sent, or a negative errno. */
export function tpacketSnd(cpu: Cpu, po: PacketSock, dest: PacketDest, msg: Msg): number {
  const { sk } = po
  const rb = po.txRing
  const bad = dest.resolve(po, msg)
  if (bad < 0) return bad
  const { dev, proto } = dest
  if (dev === null) return -ERRNO.ENXIO
  if ((dev.flags & IFF_UP) === 0) return -ERRNO.ENETDOWN
  const reserve = sk.type === SOCK_RAW ? dev.hardHeaderLen : 0
  let sizeMax = rb.frameSize - (po.tpHdrlen - SOCKADDR_LL_BYTES)
  if (sizeMax > dev.mtu + reserve + VLAN_HLEN && po.vnetHdrSz === 0) sizeMax = dev.mtu + reserve + VLAN_HLEN
  let sum = 0
  for (;;) {
    framePosition(rb, rb.head)
    if (frameStatus(po, rb) !== TP_STATUS_SEND_REQUEST) return sum
    const position = rb.head
    let tpLen = tpacketParseHeader(po, rb, sizeMax)
    let skb: SkBuff | null = null
    if (tpLen >= 0) {
      const copylen = vnetAndCopylen(po, rb, dev, tpLen)
      if (copylen < 0) tpLen = copylen
      else {
        tpLen -= po.vnetHdrSz
        const hlen = llReservedSpace(dev)
        const bytes = hlen + dev.neededTailroom + SOCKADDR_LL_BYTES + (copylen - dev.hardHeaderLen)
        skb = sockAllocSendSkb(cpu, sk, bytes)
        if (skb === null) return sum > 0 ? sum : sk.env.lastError
        tpLen = tpacketFillSkb(po, dest, rb, skb, dev, proto, tpLen, hlen, copylen, position)
        if (tpLen > dev.mtu + reserve && po.vnetHdrSz === 0 && !packetExtraVlanLenAllowed(dev, skb))
          tpLen = -ERRNO.EMSGSIZE
        if (tpLen >= 0 && po.vnetHdrSz !== 0) {
          const { features } = po.env.socks.profile
          if (virtioNetHdrToSkb(cpu, skb, po.env.vnet, features.virtioGsoUdpL4) < 0) tpLen = -ERRNO.EINVAL
        }
      }
    }
    if (tpLen < 0) {
      if (po.tpLoss) {
        setFrameStatus(po, rb, TP_STATUS_AVAILABLE)
        packetIncrementHead(rb)
      } else setFrameStatus(po, rb, TP_STATUS_WRONG_FORMAT)
      if (skb !== null) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', SITE)
      if (po.tpLoss) continue
      return tpLen
    }
    skb!.destructor = po.env.tpacketDestructor
    setFrameStatus(po, rb, TP_STATUS_SENDING)
    rb.pending += 1
    const err = xmitErrno(packetXmit(cpu, po, skb!))
    framePosition(rb, position)
    if (err !== 0 && frameStatus(po, rb) === TP_STATUS_AVAILABLE) {
      // Refused and freed: the frame waits for the next call.
      setFrameStatus(po, rb, TP_STATUS_SEND_REQUEST)
      return err
    }
    packetIncrementHead(rb)
    sum = (sum + tpLen) | 0
  }
}

/**
 * Models `tpacket_parse_header`: sets `rb.dataOffset`. @returns the length that the frame gives, or a negative errno;
 * a length with its top bit set is itself that errno.
 */
function tpacketParseHeader(po: PacketSock, rb: PacketRing, sizeMax: number): number {
  const { i32, u16, trace } = po.env.mem
  const v = po.tpVersion
  if (v === TPACKET_V3 && i32[frameAddr(rb, H3.nextOffset) >>> 2] !== 0) {
    if (trace.printk !== null) trace.printk('variable sized slot not supported')
    return -ERRNO.EINVAL
  }
  const tpLen = i32[frameAddr(rb, v === TPACKET_V3 ? H3.len : v === TPACKET_V1 ? H1.len : H2.len) >>> 2]!
  if (tpLen > sizeMax) {
    if (trace.printk !== null) trace.printk(`packet size is too long (${tpLen} > ${sizeMax})`)
    return -ERRNO.EMSGSIZE
  }
  const least = po.tpHdrlen - SOCKADDR_LL_BYTES
  rb.dataOffset = least
  if (!po.tpTxHasOff) return tpLen
  const mac = v === TPACKET_V3 ? H3.mac : v === TPACKET_V1 ? H1.mac : H2.mac
  const off = u16[frameAddr(rb, po.cooked ? mac + 2 : mac) >>> 1]!
  if (off < least || rb.frameSize - tpLen < off) return -ERRNO.EINVAL
  rb.dataOffset = off
  return tpLen
}

/** Reads the virtio header of a frame that has one. @returns linear bytes wanted, or -EINVAL. */
function vnetAndCopylen(po: PacketSock, rb: PacketRing, dev: NetDevice, tpLen: number): number {
  if (po.vnetHdrSz === 0) return dev.hardHeaderLen
  const { vnet, mem } = po.env
  const left = tpLen - po.vnetHdrSz
  if (left < 0) return -ERRNO.EINVAL
  const half = (at: number): number => {
    const addr = (i: number) => frameAddr(rb, rb.dataOffset + at + i) >>> 0
    return mem.u8[addr(0)]! | (mem.u8[addr(1)]! << 8)
  }
  vnet.flags = half(0) & 0xff
  vnet.gsoType = half(0) >> 8
  vnet.hdrLen = half(2)
  vnet.gsoSize = half(4)
  vnet.csumStart = half(6)
  vnet.csumOffset = half(8)
  rb.dataOffset += po.vnetHdrSz
  // The kernel corrects the header where it lies, in the program's memory.
  const was = vnet.hdrLen
  const err = packetSndVnetParse(vnet, left)
  if (vnet.hdrLen !== was)
    for (let i = 0; i < 2; i++)
      mem.u8[frameAddr(rb, rb.dataOffset - po.vnetHdrSz + 2 + i) >>> 0] = (vnet.hdrLen >> (8 * i)) & 0xff
  return err < 0 ? err : Math.max(vnet.hdrLen, dev.hardHeaderLen)
}

/** Models `tpacket_fill_skb`: headers are copied, the rest is pointed to. @returns `tpLen`, or a negative errno. */
function tpacketFillSkb(
  po: PacketSock,
  dest: PacketDest,
  rb: PacketRing,
  skb: SkBuff,
  dev: NetDevice,
  proto: number,
  tpLen: number,
  hlen: number,
  copylen: number,
  position: number,
): number {
  const { mem } = po.env
  own(po, skb, dev, proto)
  skbZcopyInit(skb, ubufOf(po.env.nouarg, position))
  skbReserve(skb, hlen)
  skbResetNetworkHeader(skb)
  let toWrite = tpLen
  let at = rb.dataOffset
  if (po.cooked) {
    if (devHardHeader(skb, dev, proto, dest.addr, tpLen) < 0) return -ERRNO.EINVAL
  } else if (copylen !== 0) {
    const header = Math.min(copylen, tpLen)
    skbPush(skb, dev.hardHeaderLen)
    skbPut(skb, copylen - dev.hardHeaderLen)
    const to = skb.data >>> 0
    for (let done = 0; done < header; ) {
      const from = frameAddr(rb, at + done) >>> 0
      const chunk = Math.min(header - done, PAGE_SIZE - (from & (PAGE_SIZE - 1)))
      mem.u8.copyWithin(to + done, from, from + chunk)
      done += chunk
    }
    if (header < dev.hardHeaderLen) return -ERRNO.EINVAL
    at += header
    toWrite -= header
  }
  skb.dataLen = toWrite
  skb.len += toWrite
  skb.truesize += toWrite
  po.sk.wmemAlloc += toWrite
  const { MAX_SKB_FRAGS } = po.sk.env.profile
  while (toWrite > 0) {
    const n = nrFrags(skb)
    if (n >= MAX_SKB_FRAGS) {
      if (mem.trace.printk !== null) mem.trace.printk(`Packet exceed the number of skb frags(${MAX_SKB_FRAGS})`)
      return -ERRNO.EFAULT
    }
    const addr = frameAddr(rb, at)
    const chunk = Math.min(toWrite, PAGE_SIZE - (addr & (PAGE_SIZE - 1)))
    const pfn = (addr >>> 12) as Pfn
    getPage(mem, pfn)
    skbFillPageDesc(skb, n, pfn, addr & (PAGE_SIZE - 1), chunk)
    at += chunk
    toWrite -= chunk
  }
  packetParseHeaders(po.sk, dev, skb)
  return tpLen
}

/** Models `tpacket_destruct_skb`: the packet has left; the frame is the program's again. */
export function tpacketDestructSkb(env: PacketEnv, cpu: Cpu, skb: SkBuff): void {
  const sk: Sock = env.socks.sockOf(skb)
  const po = pktSk(sk)
  const rb = po.txRing
  if (rb.vec !== null) {
    framePosition(rb, ubufIndex(destructorArg(skb)))
    rb.pending -= 1
    let status = TP_STATUS_AVAILABLE
    if (skb.tstamp !== 0 && (po.tpTstamp & SOF_TIMESTAMPING_SOFTWARE) !== 0) {
      const sec = Math.floor(skb.tstamp / 1e9)
      setFrameTime(po, rb, sec, (skb.tstamp - sec * 1e9) | 0)
      status = TP_STATUS_TS_SOFTWARE
    }
    setFrameStatus(po, rb, status)
  }
  sockWfree(env.socks, cpu, skb)
}
