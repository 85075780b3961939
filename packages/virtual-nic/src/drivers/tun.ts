/**
 * TUN and TAP: network devices whose cable is a file. This file opens and configures them, and is the way out;
 * `tun-rx.ts` is the way in.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { copyToIter, type IovIter } from '@netmem/memory'
import {
  consumeSkb,
  kfreeSkb,
  SKB_VLAN_PRESENT,
  SkBuff,
  skbCopyDatagramIter,
  skbDequeue,
  skbListHolders,
  skbOrphan,
  skbOrphanFragsRx,
  skbQueuePurge,
} from '@netmem/skbuff'
import { devGetByName, netdevRegister, netdevUnregister } from '../dev-register.js'
import { ETH_HLEN } from '../eth.js'
import {
  NETIF_F_FRAGLIST,
  NETIF_F_GSO_UDP_L4,
  NETIF_F_HW_CSUM,
  NETIF_F_HW_VLAN_CTAG_TX,
  NETIF_F_LLTX,
  NETIF_F_SG,
  NETIF_F_TSO,
  NETIF_F_TSO_ECN,
  NETIF_F_TSO6,
} from '../features.js'
import { reciprocalScale, skbGetHashSymmetric } from '../flow-hash.js'
import { groFreeHeld, napiGroReceive } from '../gro.js'
import { ptrRingHolders } from '../holders.js'
import { napiCompleteDone, napiDisable, napiEnable, netifNapiAdd, netifNapiDel } from '../napi.js'
import { napiFreeFrags } from '../napi-frags.js'
import type { NapiStruct } from '../napi-struct.js'
import {
  ARPHRD_NONE,
  IFF_MULTICAST,
  IFF_NOARP,
  IFF_POINTOPOINT,
  NET_XMIT_DROP,
  NETDEV_TX_OK,
  type NetDevice,
  type NetDeviceOps,
  RX_FRAME_ERRORS,
  TX_BYTES,
  TX_DROPPED,
  TX_PACKETS,
} from '../net-device.js'
import {
  IFF_MULTI_QUEUE,
  IFF_NAPI,
  IFF_NAPI_FRAGS,
  IFF_NO_PI,
  IFF_TAP,
  IFF_TUN,
  IFF_TUN_EXCL,
  IFF_VNET_HDR,
  MAX_TAP_QUEUES,
  type TunDriver,
  TunFile,
  TunStruct,
} from './tun-file.js'
import { tunFreeFrame, tunXdpXmit } from './tun-xdp.js'
import { VIRTIO_NET_HDR_BYTES, virtioNetHdrFromSkb, virtioNetHdrWrite } from './virtio-net-hdr.js'

const PI_BYTES = 4
/** Models `TUN_READQ_SIZE`: the queue of a TUN; a TAP has an Ethernet device's. */
const TUN_READQ_SIZE = 500
const DEFAULT_TX_QUEUE_LEN = 1000
/** Models `TUN_USER_FEATURES`: offloads that only the reader of the file can do, so it must ask for them. */
const TUN_USER_FEATURES = NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_TSO_ECN | NETIF_F_TSO6 | NETIF_F_GSO_UDP_L4

/** Models `tun_chr_open`: a queue of no device yet. */
export function tunChrOpen(driver: TunDriver): TunFile {
  const tfile = new TunFile(driver, -driver.files.length)
  driver.files.push(tfile)
  return tfile
}

/**
 * Models TUNSETIFF (`tun_set_iff`): makes the device, or adds a queue to one that has several.
 *
 * @param flags bits of `IFF_*`. @returns 0 or -errno.
 */
export function tunSetIff(tfile: TunFile, name: string, flags: number, ns = 0): number {
  const { driver } = tfile
  if (tfile.tun !== null) return -ERRNO.EINVAL
  // NAPI with fragments parses Ethernet headers, so it needs both.
  if ((flags & IFF_NAPI_FRAGS) !== 0 && ((flags & IFF_NAPI) === 0 || (flags & (IFF_TUN | IFF_TAP)) !== IFF_TAP))
    return -ERRNO.EINVAL
  const existing = devGetByName(driver.env, name, ns)
  if (existing !== null) {
    if ((flags & IFF_TUN_EXCL) !== 0) return -ERRNO.EBUSY
    const tun = existing.priv
    if (!(tun instanceof TunStruct) || ((flags & IFF_TUN) !== 0) !== ((tun.flags & IFF_TUN) !== 0)) return -ERRNO.EINVAL
    if (((flags & IFF_MULTI_QUEUE) !== 0) !== ((tun.flags & IFF_MULTI_QUEUE) !== 0)) return -ERRNO.EINVAL
    return tunAttach(tun, tfile, (flags & IFF_NAPI) !== 0, (flags & IFF_NAPI_FRAGS) !== 0)
  }
  if ((flags & (IFF_TUN | IFF_TAP)) === 0 || (flags & (IFF_TUN | IFF_TAP)) === (IFF_TUN | IFF_TAP)) return -ERRNO.EINVAL
  const tap = (flags & IFF_TAP) !== 0
  const multi = (flags & IFF_MULTI_QUEUE) !== 0
  const dev = netdevRegister(driver.env, {
    name,
    ns,
    ops: tap ? tapOps : tunOps,
    txQueues: multi ? MAX_TAP_QUEUES : 1,
    rxQueues: multi ? MAX_TAP_QUEUES : 1,
    setup: (d) => setup(d, tap),
  })
  if (typeof dev === 'number') return dev
  dev.realNumTxQueues = 1
  dev.realNumRxQueues = 1
  const tun = new TunStruct(
    dev,
    flags & (IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE | IFF_NAPI | IFF_NAPI_FRAGS),
  )
  dev.priv = tun
  dev.audit = () => auditTun(tun)
  dev.holders = (visit) => {
    for (const { queueIndex, txRing, txHead, writeQueue } of [...tun.tfiles, ...tun.disabled]) {
      ptrRingHolders(dev.env, txRing.slice(txHead), `${dev.name}: queue ${queueIndex}, to be read`, visit)
      skbListHolders(dev.env.skbs, writeQueue.first, `${dev.name}: queue ${queueIndex}, written`, visit)
    }
  }
  driver.devices.push(tun)
  return tunAttach(tun, tfile, (flags & IFF_NAPI) !== 0, (flags & IFF_NAPI_FRAGS) !== 0)
}

/** Models `tun_net_initialize` and `tun_setup`. */
function setup(dev: NetDevice, tap: boolean): void {
  dev.speed = 10_000
  dev.mtu = 1500
  dev.minMtu = 68
  dev.maxMtu = 65535 - (tap ? ETH_HLEN : 0)
  dev.txQueueLen = tap ? DEFAULT_TX_QUEUE_LEN : TUN_READQ_SIZE
  if (!tap) {
    dev.type = ARPHRD_NONE
    dev.hardHeaderLen = 0
    dev.flags = IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST
  }
  dev.hwFeatures = NETIF_F_SG | NETIF_F_FRAGLIST | TUN_USER_FEATURES | NETIF_F_HW_VLAN_CTAG_TX
  dev.features = dev.hwFeatures | NETIF_F_LLTX
}

/** Models `tun_attach`. */
function tunAttach(tun: TunStruct, tfile: TunFile, napi: boolean, frags: boolean): number {
  if (tun.tfiles.length + tun.disabled.length === MAX_TAP_QUEUES) return -ERRNO.E2BIG
  if ((tun.flags & IFF_MULTI_QUEUE) === 0 && tun.tfiles.length === 1) return -ERRNO.EBUSY
  tfile.tun = tun
  tfile.detached = false
  tfile.queueIndex = tun.tfiles.length
  tun.tfiles.push(tfile)
  setQueues(tun)
  if (napi && tfile.napi === null) {
    tfile.napi = netifNapiAdd(tun.dev.env, tun.dev, tunNapiPoll)
    tfile.napi.priv = tfile
    tfile.napiFrags = frags
    napiEnable(tfile.napi)
  } else if (tfile.napi !== null) napiEnable(tfile.napi)
  return 0
}

function setQueues(tun: TunStruct): void {
  const n = Math.max(1, tun.tfiles.length)
  tun.dev.realNumTxQueues = n
  tun.dev.realNumRxQueues = n
  tun.tfiles.forEach((tfile, index) => {
    tfile.queueIndex = index
  })
  // Models the flow table's purge: entries of a queue that moved would be wrong.
  tun.flows.clear()
}

/** Models TUNSETQUEUE. @returns 0, or `-EINVAL` when the queue is in that state already. */
export function tunSetQueue(cpu: Cpu, tfile: TunFile, attach: boolean): number {
  const tun = tfile.tun
  if (tun === null) return -ERRNO.EINVAL
  if (attach === !tfile.detached) return -ERRNO.EINVAL
  if ((tun.flags & IFF_MULTI_QUEUE) === 0) return -ERRNO.EINVAL
  if (attach) {
    tun.disabled.splice(tun.disabled.indexOf(tfile), 1)
    return tunAttach(tun, tfile, tfile.napi !== null, tfile.napiFrags)
  }
  tunUnqueue(tun, tfile)
  tfile.detached = true
  if (tfile.napi !== null) napiDisable(tfile.napi)
  tun.disabled.push(tfile)
  tunQueuePurge(cpu, tun, tfile)
  return 0
}

/** The last queue takes the place of the one that goes, as in the kernel. */
function tunUnqueue(tun: TunStruct, tfile: TunFile): void {
  const last = tun.tfiles.pop()!
  if (last !== tfile) tun.tfiles[tfile.queueIndex] = last
  setQueues(tun)
}

/** Models TUNSETSNDBUF. @param bytes above 0. */
export function tunSetSndbuf(tfile: TunFile, bytes: number): number {
  if (tfile.tun === null) return -ERRNO.EBADF
  if (bytes <= 0) return -ERRNO.EINVAL
  // One value per device: models `tun->sndbuf`, handed to all its queues.
  for (const queue of tfile.tun.tfiles) queue.sndbuf = bytes
  return 0
}

/** Models TUNSETVNETHDRSZ. */
export function tunSetVnetHdrSz(tfile: TunFile, bytes: number): number {
  if (tfile.tun === null) return -ERRNO.EBADF
  if (bytes < VIRTIO_NET_HDR_BYTES) return -ERRNO.EINVAL
  tfile.tun.vnetHdrSz = bytes
  return 0
}

/** Models `tun_chr_close`: the device goes with its last queue. @returns the device when it went. */
export function tunChrClose(cpu: Cpu, tfile: TunFile): NetDevice | null {
  const { tun, driver } = tfile
  driver.files[-tfile.sk] = null
  if (tun === null) return null
  if (tfile.detached) tun.disabled.splice(tun.disabled.indexOf(tfile), 1)
  else tunUnqueue(tun, tfile)
  if (tfile.napi !== null) {
    if (!tfile.detached) napiDisable(tfile.napi)
    napiFreeFrags(cpu, tfile.napi)
    netifNapiDel(cpu, tfile.napi, groFreeHeld)
  }
  tunQueuePurge(cpu, tun, tfile)
  tfile.tun = null
  if (tun.tfiles.length + tun.disabled.length > 0 || tun.persist) return null
  driver.devices.splice(driver.devices.indexOf(tun), 1)
  netdevUnregister(driver.env, tun.dev, cpu)
  return tun.dev
}

/** Models `tun_queue_purge`. */
function tunQueuePurge(cpu: Cpu, tun: TunStruct, tfile: TunFile): void {
  for (let i = tfile.txHead; i < tfile.txRing.length; i++) {
    const entry = tfile.txRing[i]!
    if (entry instanceof SkBuff) kfreeSkb(cpu, entry, 'NOT_SPECIFIED', 'tun_ptr_free')
    else tunFreeFrame(tun, cpu, entry)
  }
  tfile.txRing.length = 0
  tfile.txHead = 0
  skbQueuePurge(cpu, tfile.writeQueue)
}

/** Models `tun_napi_poll` and `tun_napi_receive`. */
function tunNapiPoll(cpu: Cpu, napi: NapiStruct, budget: number): number {
  const tfile = napi.priv as TunFile
  let received = 0
  while (received < budget) {
    const skb = skbDequeue(tfile.writeQueue)
    if (skb === null) break
    napiGroReceive(cpu, napi, skb)
    received++
  }
  if (received < budget) napiCompleteDone(cpu, napi, received)
  return received
}

// The way out: the host sends, the file is read.

/** Models `tun_net_xmit`. Takes the skb. */
function tunNetXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  const tun = dev.priv as TunStruct
  const tfile = tun.tfiles[skb.queueMapping]
  if (tfile === undefined) return xmitDrop(cpu, dev, skb, 'DEV_READY')
  if (skbOrphanFragsRx(cpu, skb, dev.env.mem.gfp.GFP_ATOMIC) !== 0) return xmitDrop(cpu, dev, skb, 'SKB_UCOPY_FAULT')
  // It may wait for ever until somebody reads: the sender's buffer must not wait with it.
  skbOrphan(cpu, skb)
  if (tfile.txRing.length - tfile.txHead >= dev.txQueueLen) return xmitDrop(cpu, dev, skb, 'FULL_RING')
  tfile.txRing.push(skb)
  return NETDEV_TX_OK
}

function xmitDrop(
  cpu: Cpu,
  dev: NetDevice,
  skb: SkBuff,
  reason: 'DEV_READY' | 'FULL_RING' | 'SKB_UCOPY_FAULT',
): number {
  dev.stats[TX_DROPPED]!++
  kfreeSkb(cpu, skb, reason, 'tun_net_xmit')
  return NET_XMIT_DROP
}

/**
 * Models `tun_do_read` and `tun_put_user`: one packet per read; what does not fit the buffer is lost.
 *
 * @returns bytes put into the buffer, or -errno; `-EAGAIN` when nothing waits.
 */
export function tunDoRead(cpu: Cpu, tfile: TunFile, iter: IovIter): number {
  const { tun } = tfile
  if (tun === null) return -ERRNO.EBADF
  const size = iter.count
  if (size === 0) return 0
  if (tfile.txHead === tfile.txRing.length) return -ERRNO.EAGAIN
  const entry = tfile.txRing[tfile.txHead++]!
  if (tfile.txHead === tfile.txRing.length) {
    tfile.txRing.length = 0
    tfile.txHead = 0
  }
  if (!(entry instanceof SkBuff)) {
    const n = copyToIter(tfile.driver.env.mem, cpu, entry.data, entry.len, iter)
    tun.dev.stats[TX_PACKETS]!++
    tun.dev.stats[TX_BYTES]! += n
    tunFreeFrame(tun, cpu, entry)
    return n
  }
  const total = tunPutUser(cpu, tfile, tun, entry, iter)
  if (total < 0) kfreeSkb(cpu, entry, 'NOT_SPECIFIED', 'tun_do_read')
  else consumeSkb(cpu, entry, 'tun_do_read')
  return total < 0 ? total : Math.min(total, size)
}

function tunPutUser(cpu: Cpu, tfile: TunFile, tun: TunStruct, skb: SkBuff, iter: IovIter): number {
  const { env, hdr } = tfile.driver
  const vlan = (skb.flags & SKB_VLAN_PRESENT) !== 0 ? 4 : 0
  const vnet = (tun.flags & IFF_VNET_HDR) !== 0 ? tun.vnetHdrSz : 0
  let total = skb.len + vlan + vnet
  const at = tfile.driver.scratch(cpu)
  const { dv } = env.mem
  if ((tun.flags & IFF_NO_PI) === 0) {
    if (iter.count < PI_BYTES) return -ERRNO.EINVAL
    total += PI_BYTES
    // Models TUN_PKT_STRIP: the reader is told that the packet was cut.
    dv.setUint16(at >>> 0, iter.count < total ? 1 : 0, true)
    dv.setUint16((at + 2) >>> 0, skb.protocol)
    copyToIter(env.mem, cpu, at, PI_BYTES, iter)
  }
  if (vnet !== 0) {
    if (iter.count < vnet) return -ERRNO.EINVAL
    if (virtioNetHdrFromSkb(skb, hdr, vlan) < 0) return -ERRNO.EINVAL
    virtioNetHdrWrite(hdr, dv, at >>> 0)
    env.mem.u8.fill(0, (at + VIRTIO_NET_HDR_BYTES) >>> 0, (at + vnet) >>> 0)
    copyToIter(env.mem, cpu, at, vnet, iter)
  }
  let offset = 0
  if (vlan !== 0) {
    // Models the hardware tag's way back into the packet: addresses, tag, the rest.
    offset = 12
    skbCopyDatagramIter(cpu, skb, 0, iter, Math.min(offset, iter.count))
    dv.setUint16(at >>> 0, skb.vlanProto)
    dv.setUint16((at + 2) >>> 0, skb.vlanTci)
    copyToIter(env.mem, cpu, at, Math.min(4, iter.count), iter)
  }
  skbCopyDatagramIter(cpu, skb, offset, iter, Math.min(skb.len - offset, iter.count))
  tun.dev.stats[TX_PACKETS]!++
  tun.dev.stats[TX_BYTES]! += skb.len + vlan
  return total
}

const common = {
  startXmit: tunNetXmit,
  /** Models `tun_select_queue`: the queue on which the flow's other direction was written. */
  selectQueue: (dev: NetDevice, skb: SkBuff): number => {
    const tun = dev.priv as TunStruct
    const hash = skbGetHashSymmetric(dev.env, skb)
    return tun.flows.get(hash) ?? reciprocalScale(hash, Math.max(1, tun.tfiles.length))
  },
  fixFeatures: (_dev: NetDevice, features: number): number => features & ~TUN_USER_FEATURES,
}

const tunOps: NetDeviceOps = {
  ...common,
  getStats64: (dev, out) => {
    out[RX_FRAME_ERRORS]! += (dev.priv as TunStruct).rxFrameErrors
  },
}

/** A TAP's statistics leave frame errors out: measured, and its operations name another function for them. */
const tapOps: NetDeviceOps = {
  ...common,
  xdpSet: (dev, prog) => {
    ;(dev.priv as TunStruct).prog = prog
    return 0
  },
  xdpXmit: (cpu, dev, frames, n) => tunXdpXmit(dev.priv as TunStruct, frames, n, cpu),
}

/** @throws Error when a queue's charge is not what its waiting packets say. */
function auditTun(tun: TunStruct): void {
  for (const tfile of [...tun.tfiles, ...tun.disabled]) {
    let waiting = 0
    for (let id = tfile.writeQueue.first; id !== 0; id = tun.dev.env.skbs.skbs[id]!.next)
      waiting += tun.dev.env.skbs.skbs[id]!.truesize
    if (tfile.wmemAlloc < 1 + waiting)
      throw new Error(
        `${tun.dev.name}: queue ${tfile.queueIndex} is charged ${tfile.wmemAlloc - 1}, ${waiting} wait for NAPI`,
      )
  }
}
