/**
 * What is written to a TUN/TAP queue becomes a received packet. How its memory is taken depends on the queue:
 *
 *     TAP, no send buffer limit, fits a page     built on the task's page fragment (`tunBuildSkb`)
 *     IFF_NAPI_FRAGS                             a napi head, and one fragment per further buffer of the write
 *     everything else                            a head, and pages beyond what a head should hold (`tunAllocSkb`)
 */
import { type Addr, type Cpu, ERRNO, type Pfn } from '@netmem/base'
import {
  copyFromIterFull,
  copyPageFromIter,
  type IovIter,
  ITER_UBUF,
  iovIterAdvance,
  iovIterSingleSegCount,
  PAGE_ALLOC_COSTLY_ORDER,
} from '@netmem/memory'
import { netdevAllocFrag, type PageFrag, skbPageFragRefill } from '@netmem/page-frag'
import {
  type AllocSkbError,
  allocSkbWithFrags,
  buildSkb,
  kfreeSkb,
  pskbExpandHead,
  pskbMayPull,
  type SkBuff,
  type SkbDropReason,
  skbCopyDatagramFromIter,
  skbFillPageDesc,
  skbHeadlen,
  skbPut,
  skbQueueTail,
  skbReserve,
  skbSetLength,
  skbTailroom,
} from '@netmem/skbuff'
import { ETH_HLEN, ETH_MAX_MTU, ethTypeTrans } from '../eth.js'
import { skbGetHashSymmetric } from '../flow-hash.js'
import { napiComplete } from '../napi.js'
import { napiFreeFrags, napiGetFrags, napiGroFrags } from '../napi-frags.js'
import { NAPI_POLL_WEIGHT, napiSchedule, napiSchedulePrep } from '../napi-struct.js'
import { IFF_UP, RX_BYTES, RX_DROPPED, RX_PACKETS } from '../net-device.js'
import { ETH_P_IP, ETH_P_IPV6 } from '../packet-type.js'
import { netifReceiveSkb } from '../receive.js'
import { localBhDisable, localBhEnable } from '../softirq.js'
import { XDP_PACKET_HEADROOM } from '../xdp.js'
import { doXdpGeneric } from '../xdp-generic.js'
import { skbProbeTransportHeader } from './probe-transport.js'
import {
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  TUN_SNDBUF_UNLIMITED,
  type TunFile,
  type TunStruct,
  tunSetOwner,
} from './tun-file.js'
import { tunBuildSkbXdp } from './tun-xdp.js'
import {
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  virtioNetHdrRead,
  virtioNetHdrToSkb,
} from './virtio-net-hdr.js'

const PI_BYTES = 4
const error = (tfile: TunFile): AllocSkbError => tfile.allocError

/** What a build attempt can say besides the packet. */
type Built = SkBuff | null | number

/**
 * Models `tun_get_user` (drivers/net/tun.c): one write.
 *
 * @param taskFrag the writing task's page fragment. @param noblock the file is non-blocking.
 * @param more the caller has more to write (`MSG_MORE` of vhost); only then may packets be held back.
 * @returns bytes, headers included, or -errno.
 */
export function tunGetUser(
  cpu: Cpu,
  tfile: TunFile,
  taskFrag: PageFrag,
  iter: IovIter,
  noblock: boolean,
  more = false,
): number {
  const tun = tfile.tun
  if (tun === null) return -ERRNO.EBADF
  const { env, hdr } = tfile.driver
  const total = iter.count
  let len = total
  let piProto = 0
  if ((tun.flags & IFF_NO_PI) === 0) {
    if (len < PI_BYTES) return -ERRNO.EINVAL
    len -= PI_BYTES
    const at = tfile.driver.scratch(cpu)
    if (!copyFromIterFull(env.mem, cpu, at, PI_BYTES, iter)) return -ERRNO.EFAULT
    piProto = env.mem.dv.getUint16((at + 2) >>> 0)
  }
  hdr.gsoType = 0
  hdr.flags = 0
  hdr.hdrLen = 0
  if ((tun.flags & IFF_VNET_HDR) !== 0) {
    const rc = tunVnetHdrGet(cpu, tfile, tun, iter)
    if (rc < 0) return rc
    len -= tun.vnetHdrSz
  }
  const tap = (tun.flags & IFF_TAP) !== 0
  const align = env.skbs.sizes.netSkbPad + (tap ? env.skbs.sizes.netIpAlign : 0)
  if (tap && (len < ETH_HLEN || (hdr.hdrLen !== 0 && hdr.hdrLen < ETH_HLEN))) return -ERRNO.EINVAL
  let skbXdp = true
  let built: Built
  let copied = false
  if (!tfile.napiFrags && tunCanBuildSkb(tfile, tun, len, noblock)) {
    built = tunBuildSkb(cpu, tfile, tun, taskFrag, iter, len)
    if (built === null) return total
    copied = true
    skbXdp = tun.prog === null || hdr.gsoType !== 0
  } else if (tfile.napiFrags) built = tunNapiAllocFrags(cpu, tfile, len, iter)
  else built = tunAllocSkb(cpu, tfile, align, len, hdr.hdrLen)
  if (typeof built === 'number') return drop(cpu, tfile, tun, null, built, 'NOT_SPECIFIED')
  // `tun_build_skb` ran the program and took the packet.
  if (built === null) return total
  const skb = built
  if (!copied && skbCopyDatagramFromIter(cpu, skb, 0, iter, len) !== 0)
    return drop(cpu, tfile, tun, skb, -ERRNO.EFAULT, 'SKB_UCOPY_FAULT')
  const features = env.profile.features
  if (virtioNetHdrToSkb(cpu, skb, hdr, features.virtioGsoUdpL4) !== 0) {
    tun.rxFrameErrors++
    return discard(cpu, tfile, skb, -ERRNO.EINVAL, 'NOT_SPECIFIED')
  }
  if (tap) {
    if (tfile.napiFrags && !pskbMayPull(cpu, skb, ETH_HLEN))
      return drop(cpu, tfile, tun, skb, -ERRNO.ENOMEM, 'HDR_TRUNC')
    ethTypeTrans(skb, tun.dev)
  } else {
    const proto = (tun.flags & IFF_NO_PI) === 0 ? piProto : ipProtocol(skb)
    if (proto < 0) return drop(cpu, tfile, tun, skb, -ERRNO.EINVAL, 'NOT_SPECIFIED')
    skb.macHeader = (skb.data - skb.head) | 0
    skb.protocol = proto
    skb.dev = tun.dev.id
  }
  skb.networkHeader = (skb.data - skb.head) | 0
  skbProbeTransportHeader(skb)
  if (tun.dev.realNumRxQueues > 1) skb.queueMapping = tfile.queueIndex + 1
  return tunDeliver(cpu, tfile, tun, skb, total, len, skbXdp && tun.prog !== null, more)
}

/** Models `tun_vnet_hdr_get`. @returns 0 or -errno; `driver.hdr` holds the header. */
function tunVnetHdrGet(cpu: Cpu, tfile: TunFile, tun: TunStruct, iter: IovIter): number {
  const { env, hdr } = tfile.driver
  if (iter.count < tun.vnetHdrSz) return -ERRNO.EINVAL
  const at = tfile.driver.scratch(cpu)
  if (!copyFromIterFull(env.mem, cpu, at, VIRTIO_NET_HDR_BYTES, iter)) return -ERRNO.EFAULT
  virtioNetHdrRead(hdr, env.mem.dv, at >>> 0)
  if ((hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0)
    hdr.hdrLen = Math.max(hdr.csumStart + hdr.csumOffset + 2, hdr.hdrLen)
  // Measured: the rest of a longer header still counts as room here.
  if (hdr.hdrLen > iter.count) return -ERRNO.EINVAL
  iovIterAdvance(iter, tun.vnetHdrSz - VIRTIO_NET_HDR_BYTES)
  return 0
}

// Three ways to take memory.

/** Models `tun_can_build_skb`. Measured: room for XDP's headroom is asked for even without a program. */
function tunCanBuildSkb(tfile: TunFile, tun: TunStruct, len: number, noblock: boolean): boolean {
  if ((tun.flags & IFF_TAP) === 0 || tfile.sndbuf !== TUN_SNDBUF_UNLIMITED || !noblock) return false
  const { sizes } = tfile.driver.env.skbs
  const bytes = len + sizes.netSkbPad + sizes.netIpAlign + XDP_PACKET_HEADROOM
  return ((bytes + sizes.lineBytes - 1) & -sizes.lineBytes) + sizes.sharedInfoBytes <= sizes.pageBytes
}

/** Models `tun_build_skb` and `__tun_build_skb`. @returns the packet; null: the XDP program took it; or -errno. */
function tunBuildSkb(cpu: Cpu, tfile: TunFile, tun: TunStruct, frag: PageFrag, iter: IovIter, len: number): Built {
  const { env, hdr } = tfile.driver
  const { mem, skbs } = env
  const { sizes } = skbs
  const line = sizes.lineBytes
  const pad = sizes.netSkbPad + sizes.netIpAlign + (tun.prog === null ? 0 : XDP_PACKET_HEADROOM)
  const bytes = ((len + pad + line - 1) & -line) + sizes.sharedInfoBytes
  frag.offset = (frag.offset + line - 1) & -line
  if (!skbPageFragRefill(mem, cpu, bytes, frag, mem.gfp.GFP_KERNEL, env.sysctl.highOrderAllocDisable))
    return -ERRNO.ENOMEM
  const buf = ((frag.page << 12) + frag.offset) | 0
  if (copyPageFromIter(mem, cpu, frag.page, frag.offset + pad, len, iter) !== len) return -ERRNO.EFAULT
  let headroom = pad
  let length = len
  if (tun.prog !== null && hdr.gsoType === 0) {
    const xdp = tunBuildSkbXdp(cpu, tun, frag, buf as Addr, bytes, pad, len)
    if (xdp === null) return null
    headroom = (xdp.data - xdp.dataHardStart) | 0
    length = (xdp.dataEnd - xdp.data) | 0
  }
  const skb = buildSkb(skbs, cpu, buf as Addr, bytes)
  if (skb === null) return -ERRNO.ENOMEM
  skbReserve(skb, headroom)
  skbPut(skb, length)
  tunSetOwner(tfile, skb)
  mem.pages.refcount[frag.page]!++
  frag.offset += bytes
  return skb
}

/** Models `tun_alloc_skb`: the linear part holds `linear` bytes, or as much as a page's head would. */
function tunAllocSkb(cpu: Cpu, tfile: TunFile, prepad: number, len: number, hdrLen: number): Built {
  const { env } = tfile.driver
  const { sizes } = env.skbs
  const goodLinear = sizes.pageBytes - prepad - sizes.sharedInfoBytes
  const paged = env.profile.features.tunPagedAlloc
  let linear = Math.min(hdrLen, goodLinear)
  if (linear === 0 && paged) linear = Math.min(goodLinear, len)
  // Under a page there is nothing to win by fragments.
  if (prepad + len < sizes.pageBytes || linear === 0) linear = len
  const order = paged ? PAGE_ALLOC_COSTLY_ORDER : 0
  if (paged) linear = Math.max(linear, len - sizes.maxFrags * (sizes.pageBytes << order))
  // Models sock_alloc_send_pskb; a blocking writer would wait, and here is told so.
  if (tfile.wmemAlloc - 1 >= tfile.sndbuf) return -ERRNO.EAGAIN
  const skb = allocSkbWithFrags(
    env.skbs,
    cpu,
    prepad + linear,
    len - linear,
    order,
    env.mem.gfp.GFP_KERNEL,
    error(tfile),
  )
  if (skb === null) return error(tfile).errno
  tunSetOwner(tfile, skb)
  skbReserve(skb, prepad)
  skbPut(skb, linear)
  skb.dataLen = len - linear
  skb.len += len - linear
  return skb
}

/** Models `tun_napi_alloc_frags`: the first buffer is linear, each further one is a fragment of at most a page. */
function tunNapiAllocFrags(cpu: Cpu, tfile: TunFile, len: number, iter: IovIter): Built {
  const { env } = tfile.driver
  const { sizes } = env.skbs
  const segs = iter.kind === ITER_UBUF ? 1 : iter.nrSegs - iter.seg
  if (segs > sizes.maxFrags + 1 || len > ETH_MAX_MTU - sizes.netSkbPad - sizes.netIpAlign) return -ERRNO.EMSGSIZE
  localBhDisable(cpu)
  const skb = napiGetFrags(cpu, tfile.napi!)
  localBhEnable(env, cpu)
  if (skb === null) return -ERRNO.ENOMEM
  const linear = iovIterSingleSegCount(iter)
  const short = linear - skbTailroom(skb)
  if (short > 0 && pskbExpandHead(cpu, skb, 0, short, env.mem.gfp.GFP_ATOMIC) !== 0)
    return freeFrags(cpu, tfile, -ERRNO.ENOMEM)
  skbSetLength(skb, linear)
  skb.len = len
  skb.dataLen = len - linear
  skb.truesize += skb.dataLen
  for (let i = 1; i < segs; i++) {
    const bytes = iter.lens[iter.seg + i]!
    if (bytes === 0 || bytes > sizes.pageBytes) return freeFrags(cpu, tfile, -ERRNO.EINVAL)
    const addr = netdevAllocFrag(env.skbs.fragCaches, cpu, bytes)
    if (addr === 0) return freeFrags(cpu, tfile, -ERRNO.ENOMEM)
    const page = env.mem.pages.head[addr >>> 12]! as Pfn
    skbFillPageDesc(skb, i - 1, page, (addr >>> 0) - page * sizes.pageBytes, bytes)
  }
  return skb
}

function freeFrags(cpu: Cpu, tfile: TunFile, err: number): number {
  napiFreeFrags(cpu, tfile.napi!)
  return err
}

// Delivery.

function tunDeliver(
  cpu: Cpu,
  tfile: TunFile,
  tun: TunStruct,
  packet: SkBuff,
  total: number,
  len: number,
  genericXdp: boolean,
  more: boolean,
): number {
  const { env } = tfile.driver
  const { dev } = tun
  let skb = packet
  if (genericXdp) {
    localBhDisable(cpu)
    const passed = doXdpGeneric(env, cpu, tun.prog!, skb)
    localBhEnable(env, cpu)
    if (passed === null) {
      // Models the label `unlock_frags`: the packet is gone.
      if (tfile.napiFrags) tfile.napi!.skb = 0
      return total
    }
    skb = passed
  }
  if ((dev.flags & IFF_UP) === 0) return drop(cpu, tfile, tun, skb, -ERRNO.EIO, 'DEV_READY')
  if (tun.tfiles.length > 1 && !tfile.detached) tun.flows.set(skbGetHashSymmetric(env, skb), tfile.queueIndex)
  if (tfile.napiFrags) {
    const napi = tfile.napi!
    skb.data = (skb.data - ETH_HLEN) as Addr
    skb.len += ETH_HLEN
    if (!napiSchedulePrep(napi)) {
      napiFreeFrags(cpu, napi)
      return -ERRNO.EBUSY
    }
    localBhDisable(cpu)
    napiGroFrags(cpu, napi)
    napiComplete(cpu, napi)
    localBhEnable(env, cpu)
  } else if (tfile.napi !== null) {
    if (tfile.detached) return discard(cpu, tfile, skb, -ERRNO.EBUSY, 'NOT_SPECIFIED')
    localBhDisable(cpu)
    skbQueueTail(tfile.writeQueue, skb)
    if (!more || tfile.writeQueue.qlen > NAPI_POLL_WEIGHT) napiSchedule(cpu, tfile.napi)
    localBhEnable(env, cpu)
  } else {
    localBhDisable(cpu)
    netifReceiveSkb(env, cpu, skb)
    localBhEnable(env, cpu)
  }
  dev.stats[RX_PACKETS]!++
  dev.stats[RX_BYTES]! += len
  return total
}

/** Models the label `drop`: the device counts what it could not take, except when the writer may try again. */
function drop(
  cpu: Cpu,
  tfile: TunFile,
  tun: TunStruct,
  skb: SkBuff | null,
  err: number,
  reason: SkbDropReason,
): number {
  if (err !== -ERRNO.EAGAIN) tun.dev.stats[RX_DROPPED]!++
  return discard(cpu, tfile, skb, err, reason)
}

/** Models the label `free_skb`. */
function discard(cpu: Cpu, tfile: TunFile, skb: SkBuff | null, err: number, reason: SkbDropReason): number {
  if (skb !== null) kfreeSkb(cpu, skb, reason, 'tun_get_user')
  if (tfile.napiFrags) tfile.napi!.skb = 0
  return err
}

/** @returns the EtherType that the first nibble of a TUN packet names, or -1. */
function ipProtocol(skb: SkBuff): number {
  const version = skb.len > 0 && skbHeadlen(skb) > 0 ? skb.env.u8[skb.data >>> 0]! >> 4 : 0
  return version === 4 ? ETH_P_IP : version === 6 ? ETH_P_IPV6 : -1
}
