/** What a frame says of its packet: the header of each version, and the link-layer address behind it. */
import type { Addr } from '@netmem/base'
import { SKB_HAS_TSTAMP, SKB_VLAN_PRESENT, type SkBuff } from '@netmem/skbuff'
import { AF_PACKET } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { H1, H2, H3, TP_STATUS_VLAN_TPID_VALID, TP_STATUS_VLAN_VALID, TPACKET_HDR_BYTES } from './constants.js'
import type { PacketEnv, PacketSock } from './packet-sock.js'
import { dgramVlan, protocolShown, VLAN_TCI_UNKNOWN } from './skb-status.js'

/** Sets `env.sec` and `env.nsec` to the packet's own time, or to the clock's. */
function timeOf(env: PacketEnv, skb: SkBuff): void {
  if ((skb.flags & SKB_HAS_TSTAMP) === 0 || skb.tstamp === 0) env.stamp()
  else env.stampWith(skb.tstamp)
}

/** The V3 header of a packet whose place, hash and VLAN tag are already filled. */
export function fillHeaderV3(
  po: PacketSock,
  skb: SkBuff,
  h: Addr,
  status: number,
  macoff: number,
  netoff: number,
  snaplen: number,
): void {
  const { i32 } = po.env.mem
  const at = h >>> 2
  if (po.cooked) cookedTagV3(po, skb, at)
  const { env } = po
  timeOf(env, skb)
  i32[at + (H3.sec >> 2)] = env.sec
  i32[at + (H3.nsec >> 2)] = env.nsec
  i32[at + (H3.snaplen >> 2)] = snaplen
  i32[at + (H3.len >> 2)] = skb.len
  i32[at + (H3.status >> 2)]! |= status
  // mac and net are the halves of one word.
  i32[at + (H3.mac >> 2)] = (macoff & 0xffff) | (netoff << 16)
}

export function fillHeaderV2(
  po: PacketSock,
  skb: SkBuff,
  h: Addr,
  flags: number,
  macoff: number,
  netoff: number,
  snaplen: number,
): void {
  const { i32 } = po.env.mem
  const at = h >>> 2
  let status = flags
  let tag = 0
  if ((skb.flags & SKB_VLAN_PRESENT) !== 0) tag = skb.vlanTci | (skb.vlanProto << 16)
  else {
    const tci = po.cooked ? dgramVlan(po, skb) : VLAN_TCI_UNKNOWN
    if (tci !== VLAN_TCI_UNKNOWN) tag = tci | (skb.protocol << 16)
  }
  if (tag !== 0 || (skb.flags & SKB_VLAN_PRESENT) !== 0) status |= TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID
  i32[at + (H2.len >> 2)] = skb.len
  i32[at + (H2.snaplen >> 2)] = snaplen
  i32[at + (H2.mac >> 2)] = (macoff & 0xffff) | (netoff << 16)
  timeOf(po.env, skb)
  i32[at + (H2.sec >> 2)] = po.env.sec
  i32[at + (H2.nsec >> 2)] = po.env.nsec
  i32[at + (H2.tci >> 2)] = tag
  i32[at + 7] = 0
  i32[at + (H2.status >> 2)] = status
}

export function fillHeaderV1(
  po: PacketSock,
  skb: SkBuff,
  h: Addr,
  status: number,
  macoff: number,
  netoff: number,
  snaplen: number,
): void {
  const { i32 } = po.env.mem
  const at = h >>> 2
  i32[at + (H1.len >> 2)] = skb.len
  i32[at + (H1.snaplen >> 2)] = snaplen
  i32[at + (H1.mac >> 2)] = (macoff & 0xffff) | (netoff << 16)
  timeOf(po.env, skb)
  i32[at + (H1.sec >> 2)] = po.env.sec
  i32[at + (H1.usec >> 2)] = Math.floor(po.env.nsec / 1000)
  i32[at + (H1.status >> 2)] = status
  i32[at + (H1.status >> 2) + 1] = status >> 31
}

/** A VLAN tag that is still in the bytes of a cooked packet. */
function cookedTagV3(po: PacketSock, skb: SkBuff, at: number): void {
  const tci = (skb.flags & SKB_VLAN_PRESENT) !== 0 ? VLAN_TCI_UNKNOWN : dgramVlan(po, skb)
  if (tci === VLAN_TCI_UNKNOWN) return
  const { i32 } = po.env.mem
  i32[at + (H3.tci >> 2)] = tci
  i32[at + (H3.tpid >> 2)] = skb.protocol
  i32[at + (H3.status >> 2)] = TP_STATUS_VLAN_VALID | TP_STATUS_VLAN_TPID_VALID
}

/** Writes the `struct sockaddr_ll` behind a header. The last two bytes of its address stay as they are. */
export function fillSockaddrLl(po: PacketSock, skb: SkBuff, dev: NetDevice, orig: NetDevice, h: Addr): void {
  const { i32, dv } = po.env.mem
  const at = (h >>> 0) + TPACKET_HDR_BYTES[po.tpVersion]!
  const word = at >>> 2
  const proto = protocolShown(po, skb)
  i32[word] = AF_PACKET | ((proto >> 8) << 16) | ((proto & 0xff) << 24)
  i32[word + 1] = po.origdev ? orig.id : dev.id
  const header = dev.hardHeaderLen !== 0
  i32[word + 2] = dev.type | (skb.pktType << 16) | (header ? 6 << 24 : 0)
  if (!header) return
  // Models `eth_header_parse`: the sender's address.
  const mac = ((skb.head + skb.macHeader) >>> 0) + 6
  i32[word + 3] = dv.getInt32(mac, true)
  dv.setUint16(at + 16, dv.getUint16(mac + 4, true), true)
}
