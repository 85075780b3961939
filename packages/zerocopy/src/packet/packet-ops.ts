/** Packet sockets as the system calls see them: made, bound, read, written, mapped, closed. */
import { type Cpu, ERRNO, type Gfp, NULL } from '@netmem/base'
import { kfree } from '@netmem/memory'
import { registerSkbDestructor, registerUbufOps, SKBFL_ZEROCOPY_FRAG, skbPeek, skbQueuePurge } from '@netmem/skbuff'
import {
  AF_PACKET,
  CAP_NET_RAW,
  capable,
  datagramPoll,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDNORM,
  EPOLLWRNORM,
  type NetNs,
  protoRegister,
  SIOCINQ,
  SIOCOUTQ,
  SOCK_DGRAM,
  SOCK_PACKET,
  SOCK_RAW,
  type Sock,
  type SockAddr,
  type SockEnv,
  type SockOps,
  skAlloc,
  skWmemAllocGet,
  sockInitData,
  sockOrphan,
  sockPut,
  type Task,
} from '@netmem/sockmem'
import type { NetDevice, NetDevs } from '@netmem/virtual-nic'
import { blockStatus, prbTimerTick } from './blocks.js'
import { TP_STATUS_AVAILABLE, TP_STATUS_KERNEL, TPACKET_V3 } from './constants.js'
import { fanoutRelease } from './fanout.js'
import { framePosition, frameStatus } from './frames.js'
import { packetDoBind, packetNotifier, registerProtHook, unregisterProtHook } from './hook.js'
import { addrLen, packetFlushMclist } from './mclist.js'
import { packetGetsockopt, packetSetsockopt } from './options.js'
import { packetRcv, packetRecvmsg } from './packet-rcv.js'
import { PacketDest, packetSendmsgSpkt, packetSnd } from './packet-snd.js'
import { PacketEnv, PacketSock, pktSk } from './packet-sock.js'
import { rearmRetireTimer } from './retire-timer.js'
import { packetRcvTryClearPressure } from './room.js'
import { NO_RING, packetMmap, packetSetRing } from './set-ring.js'
import { tpacketDestructSkb, tpacketSnd } from './tpacket-snd.js'

/** What packet sockets need of the machine. */
export interface PacketInitParams {
  readonly socks: SockEnv
  readonly devs: NetDevs
  /** Seeds what fanout draws at random. */
  readonly seed?: number
}

/** Models `packet_init` (net/packet/af_packet.c): registers the family. */
export function packetInit(params: PacketInitParams): PacketEnv {
  const env = new PacketEnv(params.socks, params.devs, params.seed ?? 1)
  const { socks, devs } = env
  env.tpacketDestructor = registerSkbDestructor(socks.skbs, (cpu, skb) => tpacketDestructSkb(env, cpu, skb))
  socks.wmemDestructors.push(env.tpacketDestructor)
  // The frame is named, but nobody waits for it: the destructor tells.
  env.nouarg = registerUbufOps(socks.skbs, { complete: () => {}, get: () => {}, flags: SKBFL_ZEROCOPY_FRAG })
  env.retireTimer = env.clock.register((id) => retireTimerExpired(env, id))
  protoRegister(socks, env.proto)
  const ops = packetSockOps()
  socks.registerFamily({
    family: AF_PACKET,
    create: (cpu, task, net, type, protocol, kern) => packetCreate(env, cpu, task, net, type, protocol, kern, ops),
  })
  devs.notifiers.push((cpu, event, dev) => packetNotifier(env, cpu, event, dev))
  return env
}

/** Models `prb_retire_rx_blk_timer_expired`: in softirq on the first CPU. */
function retireTimerExpired(env: PacketEnv, id: number): void {
  const sk = env.socks.socks[id]
  if (sk == null) return
  const po = pktSk(sk)
  const pkc = po.rxRing.kbdq
  if (pkc === null) return
  const cpu = env.socks.cpus[0]!
  cpu.bhDisabled += 1
  cpu.servingSoftirq += 1
  pkc.timer = 0
  const wheel = !env.socks.profile.features.packetRetireHrtimer
  // A timer wheel's tick that was set for another block only starts again.
  const done = wheel && pkc.lastKactiveBlkNum !== pkc.kactiveBlkNum ? false : prbTimerTick(cpu, po, pkc)
  rearmRetireTimer(po, pkc, !done)
  cpu.servingSoftirq -= 1
  cpu.bhDisabled -= 1
}

/** @param protocol an EtherType in network order, as programs pass it. */
function packetCreate(
  env: PacketEnv,
  cpu: Cpu,
  task: Task,
  net: NetNs,
  type: number,
  protocol: number,
  kern: boolean,
  ops: SockOps,
): number {
  if (!capable(task, CAP_NET_RAW)) return -ERRNO.EPERM
  if (type !== SOCK_DGRAM && type !== SOCK_RAW && type !== SOCK_PACKET) return -ERRNO.ESOCKTNOSUPPORT
  const sk = skAlloc(env.socks, cpu, task, net, AF_PACKET, zeroedGfp(env), env.proto, ops, kern)
  if (sk === null) return -ERRNO.ENOBUFS
  sockInitData(sk)
  sk.type = type
  const po = new PacketSock(env, sk, packetRcv)
  sk.priv = po
  po.num = ((protocol & 0xff) << 8) | ((protocol >> 8) & 0xff)
  if (po.num !== 0) {
    po.hook.type = po.num
    registerProtHook(po)
  }
  env.sklist(net).push(po)
  net.protoInuse[env.proto.inuseIndex]! += 1
  return sk.id
}

/** Packet sockets have no cache of their own and are cleared by the allocator. */
const zeroedGfp = (env: PacketEnv): Gfp => (env.mem.gfp.GFP_KERNEL | env.mem.gfp.ZERO) as Gfp

/** Models `packet_release`: nothing more comes in, rings go, and the socket when its last packet has left. */
function packetRelease(cpu: Cpu, sk: Sock): number {
  const po = pktSk(sk)
  const { env } = po
  const list = env.sklist(sk.net)
  list.splice(list.indexOf(po), 1)
  sk.net.protoInuse[env.proto.inuseIndex]! -= 1
  unregisterProtHook(cpu, po)
  po.cachedDev = null
  po.hook.dev = null
  packetFlushMclist(cpu, po)
  if (po.rxRing.vec !== null) packetSetRing(cpu, po, NO_RING, true, false)
  if (po.txRing.vec !== null) packetSetRing(cpu, po, NO_RING, true, true)
  fanoutRelease(cpu, po)
  sockOrphan(cpu, sk)
  skbQueuePurge(cpu, sk.receiveQueue)
  if (po.scratch !== NULL) kfree(env.mem, cpu, po.scratch, 'packet_release')
  po.scratch = NULL
  sockPut(cpu, sk)
  return 0
}

/** Models `packet_bind` and, for SOCK_PACKET, `packet_bind_spkt`. */
function packetBind(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  const po = pktSk(sk)
  const { devices } = po.env.devs
  if (sk.type === SOCK_PACKET) {
    const dev = devices.find((d) => d !== null && d.name === addr.path && d.ns === sk.net.id) ?? null
    if (po.fanout !== null) return -ERRNO.EINVAL
    return dev === null ? -ERRNO.ENODEV : packetDoBind(cpu, po, dev, po.num)
  }
  if (addr.family !== AF_PACKET) return -ERRNO.EINVAL
  if (po.fanout !== null) return -ERRNO.EINVAL
  let dev: NetDevice | null = null
  if (addr.ifindex !== 0) {
    dev = devices[addr.ifindex] ?? null
    if (dev === null || dev.ns !== sk.net.id) return -ERRNO.ENODEV
  }
  return packetDoBind(cpu, po, dev, addr.protocol !== 0 ? addr.protocol : po.num)
}

/** Models `packet_getname`. */
function packetGetname(sk: Sock, peer: boolean, out: SockAddr): number {
  if (peer) return -ERRNO.ENOTSUP
  const po = pktSk(sk)
  out.clear()
  out.family = AF_PACKET
  out.ifindex = po.ifindex
  out.protocol = po.num
  const dev = po.env.devs.devices[po.ifindex] ?? null
  if (dev === null) return 0
  out.path = dev.name
  out.hatype = dev.type
  out.halen = addrLen(dev)
  for (let i = 0; i < 6 && out.halen !== 0; i++)
    out.hwAddr[i] = i < 2 ? dev.macHi >> (8 - 8 * i) : dev.macLo >>> (40 - 8 * i)
  return 0
}

/** Models `packet_poll`: readable when the frame or block before the kernel's is the program's. */
function packetPoll(sk: Sock): number {
  const po = pktSk(sk)
  let mask = datagramPoll(sk)
  if (sk.type === SOCK_PACKET) return mask
  const { rxRing, txRing } = po
  if (rxRing.vec !== null && !previousIsKernels(po)) mask |= EPOLLIN | EPOLLRDNORM
  packetRcvTryClearPressure(po)
  if (txRing.vec !== null) {
    framePosition(txRing, txRing.head)
    if (frameStatus(po, txRing) === TP_STATUS_AVAILABLE) mask |= EPOLLOUT | EPOLLWRNORM
  }
  return mask
}

/** Models `packet_previous_rx_frame`. */
function previousIsKernels(po: PacketSock): boolean {
  const rb = po.rxRing
  if (po.tpVersion === TPACKET_V3) {
    const { kactiveBlkNum, knumBlocks } = rb.kbdq!
    const previous = kactiveBlkNum !== 0 ? kactiveBlkNum - 1 : knumBlocks - 1
    return blockStatus(po, rb.vec!, previous) === TP_STATUS_KERNEL
  }
  framePosition(rb, rb.head !== 0 ? rb.head - 1 : rb.frameMax)
  return frameStatus(po, rb) === TP_STATUS_KERNEL
}

/** Models `packet_ops` and `packet_ops_spkt`. */
function packetSockOps(): SockOps {
  const dest = new PacketDest()
  return {
    name: 'packet',
    bind: (cpu, _task, sk, addr) => packetBind(cpu, sk, addr),
    connect: () => -ERRNO.ENOTSUP,
    listen: () => -ERRNO.ENOTSUP,
    accept: () => -ERRNO.ENOTSUP,
    getname: packetGetname,
    sendmsg: (cpu, _task, sk, msg, len) => {
      const po = pktSk(sk)
      if (sk.type === SOCK_PACKET) return packetSendmsgSpkt(cpu, po, msg, len)
      return po.txRing.vec !== null ? tpacketSnd(cpu, po, dest, msg) : packetSnd(cpu, po, dest, msg, len)
    },
    recvmsg: (cpu, _task, sk, msg, len, flags) => packetRecvmsg(cpu, sk, msg, len, flags),
    poll: (_cpu, sk) => packetPoll(sk),
    shutdown: () => -ERRNO.ENOTSUP,
    setsockopt: (cpu, _task, sk, level, name, val) => {
      if (sk.type === SOCK_PACKET) return -ERRNO.ENOTSUP
      return packetSetsockopt(cpu, pktSk(sk), level, name, val)
    },
    getsockopt: (_cpu, _task, sk, level, name, val) => {
      if (sk.type === SOCK_PACKET) return -ERRNO.ENOTSUP
      return packetGetsockopt(pktSk(sk), level, name, val)
    },
    ioctl: (_cpu, _task, sk, cmd) => {
      if (cmd === SIOCOUTQ) return skWmemAllocGet(sk)
      if (cmd === SIOCINQ) return skbPeek(sk.receiveQueue)?.len ?? 0
      return -ERRNO.ENOTTY
    },
    release: (cpu, _task, sk) => packetRelease(cpu, sk),
    mmap: (_cpu, sk, offset, bytes) => (sk.type === SOCK_PACKET ? -ERRNO.ENODEV : packetMmap(pktSk(sk), offset, bytes)),
    munmap: (_cpu, sk) => {
      pktSk(sk).mapped -= 1
    },
  }
}
