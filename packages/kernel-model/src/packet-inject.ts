/**
 * Frames sent out of a device as a raw packet socket sends them, without a socket: nobody is charged and nobody
 * receives. What tests and traces use to put bytes on a wire.
 */
import { ERRNO } from '@netmem/base'
import { userAddr, userWrite } from '@netmem/memory'
import {
  AllocSkbError,
  allocSkbWithFrags,
  kfreeSkb,
  type SkBuff,
  skbPut,
  skbReserve,
  skbResetMacHeader,
  skbResetNetworkHeader,
  skbStoreBits,
} from '@netmem/skbuff'
import { devQueueXmit, ETH_P_8021Q, IFF_UP, type NetDevice } from '@netmem/virtual-nic'
import type { Process } from './process.js'

const VLAN_HLEN = 4
const IPV6_HEADER_BYTES = 40
const PAGE_SIZE = 4096
/** Models `PAGE_ALLOC_COSTLY_ORDER`. */
const MAX_ORDER = 3
const HH_ALIGN = 16

/** Models `LL_RESERVED_SPACE`. */
const reservedSpace = (dev: NetDevice): number => ((dev.hardHeaderLen + dev.neededHeadroom) & -HH_ALIGN) + HH_ALIGN

/**
 * Models `packet_snd` (net/packet/af_packet.c) for SOCK_RAW with protocol 0.
 *
 * @returns the frame's length, or -EMSGSIZE, -ENETDOWN, -EINVAL, -ENOBUFS.
 */
export function packetInject(process: Process, dev: NetDevice, frame: Uint8Array): number {
  const { kernel, cpu } = process
  const len = frame.length
  if ((dev.flags & IFF_UP) === 0) return -ERRNO.ENETDOWN
  if (len > dev.mtu + dev.hardHeaderLen + VLAN_HLEN) return -ERRNO.EMSGSIZE
  if (len < dev.hardHeaderLen) return -ERRNO.EINVAL
  const hlen = reservedSpace(dev)
  const prepad = hlen + dev.neededTailroom
  const linear = prepad + len < PAGE_SIZE ? len : Math.min(len, dev.hardHeaderLen)
  const error = new AllocSkbError()
  const skb = allocSkbWithFrags(
    kernel.skbs,
    cpu,
    prepad + linear,
    len - linear,
    MAX_ORDER,
    kernel.mem.gfp.GFP_KERNEL,
    error,
  )
  if (skb === null) return error.errno
  skbReserve(skb, hlen)
  skbPut(skb, linear)
  skb.dataLen = len - linear
  skb.len += skb.dataLen
  headers(skb, dev, frame)
  fill(process, skb, frame)
  // The four bytes above the MTU were for a VLAN tag; only now is the frame there to be looked at.
  if (len > dev.mtu + dev.hardHeaderLen && skb.protocol !== ETH_P_8021Q) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'packet_sendmsg')
    return -ERRNO.EMSGSIZE
  }
  const rc = devQueueXmit(kernel.devs, cpu, skb)
  if (rc > 0) return -ERRNO.ENOBUFS
  return rc < 0 ? rc : len
}

/** Models `packet_parse_headers`: the link header's type is the packet's protocol. */
function headers(skb: SkBuff, dev: NetDevice, frame: Uint8Array): void {
  skbResetNetworkHeader(skb)
  const back = dev.hardHeaderLen
  skb.data = ((skb.data - back) | 0) as typeof skb.data
  skb.tail = ((skb.tail - back) | 0) as typeof skb.tail
  if (frame.length < back + IPV6_HEADER_BYTES && back !== 14) skbResetNetworkHeader(skb)
  skbResetMacHeader(skb)
  skb.dev = dev.id
  if (back === 14) skb.protocol = (frame[12]! << 8) | frame[13]!
}

/** The user's bytes, page by page of the process's own memory. */
function fill(process: Process, skb: SkBuff, frame: Uint8Array): void {
  const buffer = process.buffer('inject', frame.length)
  userWrite(process.kernel.mem, buffer, 0, frame)
  for (let at = 0; at < frame.length; at += PAGE_SIZE)
    skbStoreBits(skb, at, userAddr(buffer, at), Math.min(PAGE_SIZE, frame.length - at))
}
