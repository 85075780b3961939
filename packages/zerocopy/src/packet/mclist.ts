/** Memberships of packet sockets: what else a device should let through while the socket is there. */
import { type Addr, type Cpu, ERRNO, NULL } from '@netmem/base'
import { kfree, kmalloc } from '@netmem/memory'
import { devSetAllmulti, devSetPromiscuity, type NetDevice } from '@netmem/virtual-nic'
import { PACKET_MR_ALLMULTI, PACKET_MR_MULTICAST, PACKET_MR_PROMISC, PACKET_MR_UNICAST } from './constants.js'
import type { PacketSock } from './packet-sock.js'

/** `sizeof(struct packet_mclist)`. */
const MCLIST_BYTES = 56
/** Models `MAX_ADDR_LEN`. */
export const MAX_ADDR_LEN = 32
const ETH_ALEN = 6

/** Models `struct packet_mreq_max`. */
export interface PacketMreq {
  readonly ifindex: number
  readonly type: number
  readonly alen: number
  readonly address: Uint8Array
}

/** Models `struct packet_mclist`: one membership, the newest first. */
export interface PacketMclist extends PacketMreq {
  next: PacketMclist | null
  count: number
  readonly memory: Addr
}

/** Models `net_device::addr_len`: bytes of a link address. */
export const addrLen = (dev: NetDevice): number => (dev.hardHeaderLen !== 0 ? ETH_ALEN : 0)

/** Models `packet_dev_mc`. @param what 1 joins, -1 leaves. */
function packetDevMc(dev: NetDevice, i: PacketMreq, what: number): number {
  switch (i.type) {
    case PACKET_MR_MULTICAST:
    case PACKET_MR_UNICAST:
      // Address filters of devices are not modelled: all modelled devices take every group.
      return i.alen !== addrLen(dev) ? -ERRNO.EINVAL : 0
    case PACKET_MR_PROMISC:
      devSetPromiscuity(dev, what)
      return 0
    case PACKET_MR_ALLMULTI:
      devSetAllmulti(dev, what)
      return 0
    default:
      return 0
  }
}

const sameMembership = (a: PacketMreq, b: PacketMreq): boolean =>
  a.ifindex === b.ifindex &&
  a.type === b.type &&
  a.alen === b.alen &&
  a.address.every((byte, n) => byte === b.address[n])

const deviceOf = (po: PacketSock, ifindex: number): NetDevice | null => {
  const dev = po.env.devs.devices[ifindex] ?? null
  return dev !== null && dev.ns === po.sk.net.id ? dev : null
}

/** Models `packet_mc_add`. @returns 0, -ENODEV, -EINVAL or -ENOBUFS. */
export function packetMcAdd(cpu: Cpu, po: PacketSock, mreq: PacketMreq): number {
  const { mem } = po.env
  const dev = deviceOf(po, mreq.ifindex)
  if (dev === null) return -ERRNO.ENODEV
  if (mreq.alen > addrLen(dev)) return -ERRNO.EINVAL
  const memory = kmalloc(mem, cpu, MCLIST_BYTES, mem.gfp.GFP_KERNEL, 'packet_mc_add')
  if (memory === NULL) return -ERRNO.ENOBUFS
  for (let ml = po.mclist; ml !== null; ml = ml.next)
    if (sameMembership(ml, mreq)) {
      ml.count += 1
      kfree(mem, cpu, memory, 'packet_mc_add')
      return 0
    }
  const err = packetDevMc(dev, mreq, 1)
  if (err < 0) kfree(mem, cpu, memory, 'packet_mc_add')
  else po.mclist = { ...mreq, next: po.mclist, count: 1, memory }
  return err
}

/** Models `packet_mc_drop`. A membership that is not there is left quietly. */
export function packetMcDrop(cpu: Cpu, po: PacketSock, mreq: PacketMreq): number {
  let prev: PacketMclist | null = null
  for (let ml = po.mclist; ml !== null; prev = ml, ml = ml.next) {
    if (!sameMembership(ml, mreq)) continue
    ml.count -= 1
    if (ml.count !== 0) return 0
    if (prev === null) po.mclist = ml.next
    else prev.next = ml.next
    leave(cpu, po, ml)
    return 0
  }
  return 0
}

function leave(cpu: Cpu, po: PacketSock, ml: PacketMclist): void {
  const dev = deviceOf(po, ml.ifindex)
  if (dev !== null) packetDevMc(dev, ml, -1)
  kfree(po.env.mem, cpu, ml.memory, 'packet_flush_mclist')
}

/** Models `packet_flush_mclist`: the socket closes. */
export function packetFlushMclist(cpu: Cpu, po: PacketSock): void {
  while (po.mclist !== null) {
    const ml = po.mclist
    po.mclist = ml.next
    leave(cpu, po, ml)
  }
}

/** Models `packet_dev_mclist_delete`: a device goes away, and its memberships with it. */
export function packetDevMclistDelete(cpu: Cpu, po: PacketSock, dev: NetDevice): void {
  const kept: PacketMclist[] = []
  for (let ml = po.mclist; ml !== null; ml = ml.next)
    if (ml.ifindex === dev.id) leave(cpu, po, ml)
    else kept.push(ml)
  po.mclist = null
  for (const ml of kept.reverse()) {
    ml.next = po.mclist
    po.mclist = ml
  }
}
