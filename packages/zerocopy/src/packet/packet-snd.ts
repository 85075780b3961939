/** Sending one packet with `sendmsg`: the program's bytes are copied into a buffer charged to the socket. */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import { copyFromIterFull, iovIterAdvance, PAGE_ALLOC_COSTLY_ORDER } from '@netmem/memory'
import {
  kfreeSkb,
  type SkBuff,
  skbCopyDatagramFromIter,
  skbHeadlen,
  skbPush,
  skbPut,
  skbReserve,
  skbResetMacHeader,
  skbResetNetworkHeader,
} from '@netmem/skbuff'
import {
  AF_UNSPEC,
  type Msg,
  SOCK_PACKET,
  SOCK_RAW,
  SOCKF_NOFCS,
  type Sock,
  sockAllocSendPskb,
  sockWmalloc,
} from '@netmem/sockmem'
import {
  ARPHRD_ETHER,
  devDirectXmit,
  devQueueXmit,
  ETH_P_802_2,
  ETH_P_802_3,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_ALL,
  IFF_LOOPBACK,
  IFF_NOARP,
  IFF_UP,
  NET_XMIT_CN,
  NETDEV_TX_BUSY,
  type NetDevice,
  skbProbeTransportHeader,
  VIRTIO_NET_HDR_BYTES,
  virtioNetHdrRead,
  virtioNetHdrToSkb,
} from '@netmem/virtual-nic'
import { addrLen } from './mclist.js'
import type { PacketSock } from './packet-sock.js'
import { packetSndVnetParse } from './vnet-hdr.js'

export const VLAN_HLEN = 4
const ETH_HLEN = 14
const HH_DATA_MOD = 16
const PAGE_SIZE = 4096

/** Models `LL_RESERVED_SPACE`: room for the link header, aligned. */
export const llReservedSpace = (dev: NetDevice): number =>
  ((dev.hardHeaderLen + dev.neededHeadroom) & -HH_DATA_MOD) + HH_DATA_MOD

/** Where a message goes: the address that came with it, or what the socket is bound to. */
export class PacketDest {
  dev: NetDevice | null = null
  proto = 0
  /** The link address to write in cooked packets; null for none. */
  addr: Uint8Array | null = null

  /** @returns 0 or -EINVAL; a device that does not exist is `dev` null. */
  resolve(po: PacketSock, msg: Msg): number {
    const { name } = msg
    this.addr = null
    if (name.family === AF_UNSPEC) {
      this.dev = po.cachedDev
      this.proto = po.num
      return 0
    }
    this.proto = name.protocol
    const dev = po.env.devs.devices[name.ifindex] ?? null
    this.dev = dev !== null && dev.ns === po.sk.net.id ? dev : null
    if (po.cooked) this.addr = name.hwAddr
    return name.halen > name.hwAddr.length ? -ERRNO.EINVAL : 0
  }
}

/** Models `packet_snd` (net/packet/af_packet.c). @returns bytes taken, or a negative errno. */
export function packetSnd(cpu: Cpu, po: PacketSock, dest: PacketDest, msg: Msg, bytes: number): number {
  const { env, sk } = po
  const { vnet } = env
  let len = bytes
  const bad = dest.resolve(po, msg)
  if (bad < 0) return bad
  const { dev, proto } = dest
  if (dev === null) return -ERRNO.ENXIO
  if ((dev.flags & IFF_UP) === 0) return -ERRNO.ENETDOWN
  const reserve = sk.type === SOCK_RAW ? dev.hardHeaderLen : 0
  let gso = 0
  let linear = 0
  if (po.vnetHdrSz !== 0) {
    if (len < po.vnetHdrSz) return -ERRNO.EINVAL
    len -= po.vnetHdrSz
    if (!copyFromIterFull(env.mem, cpu, po.scratch, VIRTIO_NET_HDR_BYTES, msg.iter)) return -ERRNO.EFAULT
    virtioNetHdrRead(vnet, env.mem.dv, po.scratch >>> 0)
    const err = packetSndVnetParse(vnet, len)
    if (err < 0) return err
    iovIterAdvance(msg.iter, po.vnetHdrSz - VIRTIO_NET_HDR_BYTES)
    gso = vnet.gsoType
    linear = vnet.hdrLen
  }
  // No modelled device leaves the frame check sequence to the sender.
  if ((sk.flags & SOCKF_NOFCS) !== 0) return -ERRNO.EPROTONOSUPPORT
  if (gso === 0 && len > dev.mtu + reserve + VLAN_HLEN) return -ERRNO.EMSGSIZE
  const hlen = llReservedSpace(dev)
  linear = Math.max(linear, Math.min(len, dev.hardHeaderLen))
  const skb = packetAllocSkb(cpu, po, hlen + dev.neededTailroom, hlen, len, linear)
  if (skb === null) return sk.env.lastError
  const err = fill(cpu, po, dest, dev, skb, msg, len, reserve)
  if (err < 0) return dropped(cpu, skb, err)
  if (gso === 0 && len > dev.mtu + reserve && !packetExtraVlanLenAllowed(dev, skb))
    return dropped(cpu, skb, -ERRNO.EMSGSIZE)
  own(po, skb, dev, proto)
  if (po.vnetHdrSz !== 0) {
    const rc = virtioNetHdrToSkb(cpu, skb, vnet, env.socks.profile.features.virtioGsoUdpL4)
    if (rc < 0) return dropped(cpu, skb, rc)
    len += po.vnetHdrSz
  }
  packetParseHeaders(sk, dev, skb)
  return xmitErrno(packetXmit(cpu, po, skb)) || len
}

/** Models `packet_alloc_skb`: a packet below a page is not worth pages of its own. */
function packetAllocSkb(
  cpu: Cpu,
  po: PacketSock,
  prepad: number,
  reserve: number,
  len: number,
  wanted: number,
): SkBuff | null {
  const { features, MAX_SKB_FRAGS } = po.sk.env.profile
  const order = features.packetHighOrder ? PAGE_ALLOC_COSTLY_ORDER : 0
  let linear = prepad + len < PAGE_SIZE || wanted === 0 ? len : wanted
  const most = MAX_SKB_FRAGS * (PAGE_SIZE << PAGE_ALLOC_COSTLY_ORDER)
  if (features.packetHighOrder && len - linear > most) linear = len - most
  const skb = sockAllocSendPskb(cpu, po.sk, prepad + linear, len - linear, order)
  if (skb === null) return null
  skbReserve(skb, reserve)
  skbPut(skb, linear)
  skb.dataLen = len - linear
  skb.len += skb.dataLen
  return skb
}

/** The link header, where the kernel writes it, and the program's bytes. */
function fill(
  cpu: Cpu,
  po: PacketSock,
  dest: PacketDest,
  dev: NetDevice,
  skb: SkBuff,
  msg: Msg,
  len: number,
  reserve: number,
): number {
  skbResetNetworkHeader(skb)
  let offset = 0
  if (po.cooked) {
    offset = devHardHeader(skb, dev, dest.proto, dest.addr, len)
    if (offset < 0) return -ERRNO.EINVAL
  } else if (reserve !== 0) {
    skb.data = ((skb.data - reserve) | 0) as Addr
    skb.tail = ((skb.tail - reserve) | 0) as Addr
  }
  const err = skbCopyDatagramFromIter(cpu, skb, offset, msg.iter, len)
  if (err < 0) return err
  return po.sk.type === SOCK_RAW && len < dev.hardHeaderLen ? -ERRNO.EINVAL : 0
}

/** Fields that every packet of the socket carries. */
export function own(po: PacketSock, skb: SkBuff, dev: NetDevice, proto: number): void {
  skb.protocol = proto
  skb.dev = dev.id
  skb.priority = po.sk.priority
  if (po.sk.mark !== 0) skb.mark = po.sk.mark
}

function dropped(cpu: Cpu, skb: SkBuff, err: number): number {
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'packet_sendmsg')
  return err
}

/**
 * Models `dev_hard_header` and `eth_header` (net/ethernet/eth.c). @param addr the destination's link address, null for none.
 *
 * @returns bytes of the header, or a negative number when nobody says where to.
 */
export function devHardHeader(
  skb: SkBuff,
  dev: NetDevice,
  proto: number,
  addr: Uint8Array | null,
  len: number,
): number {
  if (dev.hardHeaderLen === 0) return 0
  const { dv } = skb.env.mem
  skbPush(skb, ETH_HLEN)
  const at = skb.data >>> 0
  dv.setUint16(at + 12, proto !== ETH_P_802_3 && proto !== ETH_P_802_2 ? proto : len)
  dv.setUint16(at + 6, dev.macHi)
  dv.setInt32(at + 8, dev.macLo)
  if (addr === null && (dev.flags & (IFF_LOOPBACK | IFF_NOARP)) === 0) return -ETH_HLEN
  for (let i = 0; i < addrLen(dev); i++) dv.setUint8(at + i, addr === null ? 0 : addr[i]!)
  return ETH_HLEN
}

const isVlan = (proto: number): boolean => proto === ETH_P_8021Q || proto === ETH_P_8021AD

/** Models `packet_extra_vlan_len_allowed`: the four bytes above the MTU are for a tag, and only now can one look. */
export function packetExtraVlanLenAllowed(dev: NetDevice, skb: SkBuff): boolean {
  if (dev.type !== ARPHRD_ETHER) return false
  skbResetMacHeader(skb)
  return skb.env.mem.dv.getUint16((skb.data >>> 0) + 12) === ETH_P_8021Q
}

/** Models `packet_parse_headers`: a raw packet says itself what it is. */
export function packetParseHeaders(sk: Sock, dev: NetDevice, skb: SkBuff): void {
  const { dv } = skb.env.mem
  if ((skb.protocol === 0 || skb.protocol === ETH_P_ALL) && sk.type === SOCK_RAW) {
    skbResetMacHeader(skb)
    skb.protocol = dev.hardHeaderLen !== 0 ? dv.getUint16((skb.data >>> 0) + 12) : 0
  }
  if (dev.type === ARPHRD_ETHER && isVlan(skb.protocol)) {
    const depth = vlanDepth(skb)
    if (depth !== 0) skb.networkHeader = (skb.data - skb.head + depth) | 0
  }
  skbProbeTransportHeader(skb, 0, (skb.head + skb.networkHeader - skb.data) | 0)
}

/** Models `vlan_get_protocol_and_depth`: bytes in front of the packet behind all tags, 0 for a packet cut short. */
function vlanDepth(skb: SkBuff): number {
  const { dv } = skb.env.mem
  let depth = ETH_HLEN
  for (let proto = skb.protocol; isVlan(proto); depth += VLAN_HLEN) {
    if (skbHeadlen(skb) < depth + VLAN_HLEN || depth > ETH_HLEN + 7 * VLAN_HLEN) return 0
    proto = dv.getUint16(((skb.data + depth) >>> 0) + 2)
  }
  return depth
}

/** Models `packet_xmit`: through the queue, or past it. @returns 0, a positive `NET_XMIT_*` or a negative errno. */
export function packetXmit(cpu: Cpu, po: PacketSock, skb: SkBuff): number {
  const { devs } = po.env
  if (!po.qdiscBypass) return devQueueXmit(devs, cpu, skb)
  // Models `packet_pick_tx_queue`: the CPU's own queue unless the driver wants another.
  const dev = devs.devices[skb.dev]!
  const queue = dev.ops.selectQueue === undefined ? cpu.id % dev.realNumTxQueues : dev.ops.selectQueue(dev, skb)
  const rc = devDirectXmit(devs, cpu, skb, queue)
  if (rc >= NETDEV_TX_BUSY) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'packet_direct_xmit')
  return rc
}

/** Models `net_xmit_errno` of what `packetXmit` said: congestion alone is no error. */
export const xmitErrno = (rc: number): number => (rc > 0 ? (rc === NET_XMIT_CN ? 0 : -ERRNO.ENOBUFS) : rc)

/** Models `packet_sendmsg_spkt`: the oldest kind of packet socket names its device in each message. */
export function packetSendmsgSpkt(cpu: Cpu, po: PacketSock, msg: Msg, len: number): number {
  const { env, sk } = po
  if (msg.name.family === AF_UNSPEC) return -ERRNO.ENOTCONN
  const dev = env.devs.devices.find((d) => d !== null && d.name === msg.name.path && d.ns === sk.net.id) ?? null
  if (dev === null) return -ERRNO.ENODEV
  if ((dev.flags & IFF_UP) === 0) return -ERRNO.ENETDOWN
  if ((sk.flags & SOCKF_NOFCS) !== 0) return -ERRNO.EPROTONOSUPPORT
  if (len > dev.mtu + dev.hardHeaderLen + VLAN_HLEN) return -ERRNO.EMSGSIZE
  const reserved = llReservedSpace(dev)
  const skb = sockWmalloc(cpu, sk, len + reserved + dev.neededTailroom, false, env.mem.gfp.GFP_KERNEL)
  if (skb === null) return -ERRNO.ENOBUFS
  skbReserve(skb, reserved)
  skbResetNetworkHeader(skb)
  skb.data = ((skb.data - dev.hardHeaderLen) | 0) as Addr
  skb.tail = ((skb.tail - dev.hardHeaderLen) | 0) as Addr
  if (len < dev.hardHeaderLen) skbResetNetworkHeader(skb)
  if (!copyFromIterFull(env.mem, cpu, skbPut(skb, len), len, msg.iter)) return dropped(cpu, skb, -ERRNO.EFAULT)
  if (len < dev.hardHeaderLen) return dropped(cpu, skb, -ERRNO.EINVAL)
  if (len > dev.mtu + dev.hardHeaderLen && !packetExtraVlanLenAllowed(dev, skb))
    return dropped(cpu, skb, -ERRNO.EMSGSIZE)
  own(po, skb, dev, msg.name.protocol)
  packetParseHeaders(sk, dev, skb)
  devQueueXmit(env.devs, cpu, skb)
  return len
}

/** True for a socket of the oldest kind. */
export const isSpkt = (sk: Sock): boolean => sk.type === SOCK_PACKET
