/** The virtio header in front of a packet, in frames and in messages. */
import { type Addr, ERRNO } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  type VirtioNetHdr,
  virtioNetHdrFromSkb,
  virtioNetHdrWrite,
} from '@netmem/virtual-nic'
import type { PacketSock } from './packet-sock.js'

/** Writes the header of a received packet at `at`. @returns false for a packet that it cannot describe. */
export function packetVnetHdr(po: PacketSock, skb: SkBuff, at: Addr): boolean {
  const { vnet, mem } = po.env
  if (virtioNetHdrFromSkb(skb, vnet, 0) !== 0) return false
  virtioNetHdrWrite(vnet, mem.dv, at >>> 0)
  return true
}

/** Models `__packet_snd_vnet_parse`: the header part must reach behind the checksum, and not behind the packet. */
export function packetSndVnetParse(hdr: VirtioNetHdr, len: number): number {
  const end = hdr.csumStart + hdr.csumOffset + 2
  if ((hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 && end > hdr.hdrLen) hdr.hdrLen = end & 0xffff
  return hdr.hdrLen > len ? -ERRNO.EINVAL : 0
}
