/** What a program can do with the socket: the calls that drive it, and the rings as memory. */
import { type Cpu, ERRNO } from '@netmem/base'
import { PAGE_SIZE, type UserBuffer, userMap } from '@netmem/memory'
import {
  AF_XDP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDNORM,
  EPOLLWRNORM,
  MSG_DONTWAIT,
  type NetProtoFamily,
  SOCKF_PREFER_BUSY_POLL,
  type Sock,
  type SockEnv,
  type SockOps,
} from '@netmem/sockmem'
import { BUSY_POLL_BUDGET, IFF_UP, type NetDevs, napiBusyLoop } from '@netmem/virtual-nic'
import {
  XDP_PGOFF_RX_RING,
  XDP_PGOFF_TX_RING,
  XDP_UMEM_PGOFF_COMPLETION_RING,
  XDP_UMEM_PGOFF_FILL_RING,
  XDP_WAKEUP_RX,
  XDP_WAKEUP_TX,
} from './uapi.js'
import { xskBind } from './xsk-bind.js'
import { XskEnv } from './xsk-env.js'
import { xskCreate, xskNetdevUnregister, xskRelease } from './xsk-life.js'
import { type XskQueue, xskqConsPresentEntries, xskqProdIsEmpty } from './xsk-queue.js'
import { type XdpSock, xdpSk, xskIsBound } from './xsk-sock.js'
import { xskGetsockopt, xskSetsockopt } from './xsk-sockopt.js'
import { XSK_READY, XSK_UNBOUND } from './xsk-state.js'
import { xskDestructSkb, xskGenericXmit } from './xsk-xmit.js'

const no = (): number => -ERRNO.ENOTSUP

/** Models `xsk_proto_ops` (net/xdp/xsk.c). */
const xskOps: SockOps = {
  name: 'XDP',
  bind: (cpu, _task, sk, addr) => xskBind(cpu, sk, addr),
  connect: no,
  listen: no,
  accept: no,
  getname: no,
  shutdown: no,
  ioctl: no,
  sendmsg: (cpu, _task, sk, msg) => xskSendmsg(cpu, sk, msg.flags),
  recvmsg: (cpu, _task, sk, _msg, _len, flags) => xskRecvmsg(cpu, sk, flags),
  poll: xskPoll,
  setsockopt: xskSetsockopt,
  getsockopt: (_cpu, _task, sk, level, opt, val) => xskGetsockopt(sk, level, opt, val),
  release: (cpu, _task, sk) => xskRelease(cpu, sk),
  mmap: (_cpu, sk, offset, bytes) => xskMmap(sk, offset, bytes),
}

/** Models `xsk_init`: AF_XDP on this machine. */
export function xskInit(socks: SockEnv, devs: NetDevs): XskEnv {
  const env = new XskEnv(socks, devs, xskOps, xskDestructSkb)
  const family: NetProtoFamily = {
    family: AF_XDP,
    create: (cpu, task, net, type, protocol) => xskCreate(env, cpu, task, net, type, protocol),
  }
  socks.registerFamily(family)
  devs.notifiers.push((cpu, event, dev) => {
    if (event === 'unregister') xskNetdevUnregister(env, cpu, dev)
  })
  return env
}

/** Models `xsk_check_common`. */
function checkCommon(xs: XdpSock): number {
  if (!xskIsBound(xs)) return -ERRNO.ENXIO
  return (xs.dev!.flags & IFF_UP) === 0 ? -ERRNO.ENETDOWN : 0
}

/** Models `sk_busy_loop` of a socket that may: one round of the NAPI behind its queue. */
function busyLoop(cpu: Cpu, xs: XdpSock): void {
  const { sk } = xs
  if (sk.llUsec === 0) return
  const napi = xs.dev!.napis[xs.queueId]
  const prefer = (sk.flags & SOCKF_PREFER_BUSY_POLL) !== 0
  if (napi !== undefined) napiBusyLoop(cpu, napi, sk.busyPollBudget || BUSY_POLL_BUDGET, prefer)
}

/** Models `xsk_no_wakeup`: who polls need not be woken. */
const noWakeup = (xs: XdpSock): boolean =>
  (xs.sk.flags & SOCKF_PREFER_BUSY_POLL) !== 0 && xs.sk.llUsec !== 0 && xs.dev!.napis[xs.queueId] !== undefined

/** Models `xsk_sendmsg`: there is nothing in the message, it only says "go on". @returns 0 or a negative errno. */
function xskSendmsg(cpu: Cpu, sk: Sock, flags: number): number {
  const xs = xdpSk(sk)
  const err = checkCommon(xs)
  if (err !== 0) return err
  if ((flags & MSG_DONTWAIT) === 0) return -ERRNO.ENOTSUP
  if (xs.tx === null) return -ERRNO.ENOBUFS
  busyLoop(cpu, xs)
  if (xs.zc && noWakeup(xs)) return 0
  if ((xs.pool!.cachedNeedWakeup & XDP_WAKEUP_TX) === 0) return 0
  return xs.zc ? wakeup(cpu, xs) : xskGenericXmit(cpu, sk)
}

/** Models `xsk_recvmsg`: wakes a driver that found no buffers. */
function xskRecvmsg(cpu: Cpu, sk: Sock, flags: number): number {
  const xs = xdpSk(sk)
  const err = checkCommon(xs)
  if (err !== 0) return err
  if (xs.rx === null) return -ERRNO.ENOBUFS
  if ((flags & MSG_DONTWAIT) === 0) return -ERRNO.ENOTSUP
  busyLoop(cpu, xs)
  if (noWakeup(xs)) return 0
  return xs.zc && (xs.pool!.cachedNeedWakeup & XDP_WAKEUP_RX) !== 0 ? wakeup(cpu, xs) : 0
}

/** Models `xsk_wakeup`. */
const wakeup = (cpu: Cpu, xs: XdpSock): number => xs.dev!.ops.xskWakeup!(xs.dev!, xs.queueId, cpu)

/** Models `xsk_poll`: drives whoever sleeps, and says what is ready. @returns `EPOLL*` bits. */
function xskPoll(cpu: Cpu, sk: Sock): number {
  const xs = xdpSk(sk)
  if (checkCommon(xs) !== 0) return 0
  if (xs.pool!.cachedNeedWakeup !== 0) {
    if (xs.zc) wakeup(cpu, xs)
    else if (xs.tx !== null) xskGenericXmit(cpu, sk)
  }
  let mask = 0
  if (xs.rx !== null && !xskqProdIsEmpty(xs.rx)) mask |= EPOLLIN | EPOLLRDNORM
  if (xs.tx !== null && xskqConsPresentEntries(xs.tx) <= xs.tx.nentries >>> 1) mask |= EPOLLOUT | EPOLLWRNORM
  return mask
}

/** Models `xsk_mmap`: one ring, by its offset. @returns the area; -EINVAL without such a ring, -EBUSY when unbound. */
function xskMmap(sk: Sock, offset: number, bytes: number): UserBuffer | number {
  const xs = xdpSk(sk)
  if (xs.state === XSK_UNBOUND) return -ERRNO.EBUSY
  const ring = ringAt(xs, offset)
  if (ring === null || bytes > ring.pages.length * PAGE_SIZE) return -ERRNO.EINVAL
  return userMap(xs.env.mem, ring.pages.slice(0, bytes / PAGE_SIZE))
}

function ringAt(xs: XdpSock, offset: number): XskQueue | null {
  if (offset === XDP_PGOFF_RX_RING) return xs.rx
  if (offset === XDP_PGOFF_TX_RING) return xs.tx
  const ready = xs.state === XSK_READY
  if (offset === XDP_UMEM_PGOFF_FILL_RING) return ready ? xs.fqTmp : xs.pool!.fq
  if (offset === XDP_UMEM_PGOFF_COMPLETION_RING) return ready ? xs.cqTmp : xs.pool!.cq
  return null
}
