/** Binding a socket to a queue of a device: what must be there, what excludes each other, whose buffers it uses. */
import { type Cpu, ERRNO } from '@netmem/base'
import { AF_XDP, type Sock, SockAddr } from '@netmem/sockmem'
import { ETH_HLEN, type NetDevice } from '@netmem/virtual-nic'
import { XDP_COPY, XDP_SHARED_UMEM, XDP_USE_NEED_WAKEUP, XDP_USE_SG, XDP_WAKEUP_TX, XDP_ZEROCOPY } from './uapi.js'
import { xdpGetUmem } from './xdp-umem.js'
import type { XskBuffPool } from './xsk-buff-pool.js'
import { XskPoolDrv } from './xsk-drv.js'
import { xpCreateAndAssignUmem, xpDestroy, xpGetPool } from './xsk-pool-life.js'
import { type XdpSock, xdpSk, xskIsBound } from './xsk-sock.js'
import { XSK_BOUND, XSK_READY } from './xsk-state.js'

/** Models `struct sockaddr_xdp`. */
export class SockaddrXdp extends SockAddr {
  /** `XDP_*` bits of the bind. */
  flags = 0
  queueId = 0
  /** Models `sxdp_shared_umem_fd`, looked up: the id of that socket, or -ENOTSOCK. */
  sharedUmem: number = -ERRNO.ENOTSOCK

  constructor() {
    super()
    this.family = AF_XDP
  }
}

/**
 * Models `xsk_bind` (net/xdp/xsk.c).
 *
 * @returns 0; -EINVAL for an address, flags or rings that do not fit, -EBUSY when the socket was bound or the queue is
 *   taken, -ENODEV, -ENOTSOCK or -ENOPROTOOPT for the socket to share with and -EBADF when that one is not bound,
 *   -EOPNOTSUPP when the device cannot do zero copy and must.
 */
export function xskBind(cpu: Cpu, sk: Sock, addr: SockAddr): number {
  const xs = xdpSk(sk)
  if (!(addr instanceof SockaddrXdp) || addr.family !== AF_XDP) return -ERRNO.EINVAL
  const { flags } = addr
  let known = XDP_SHARED_UMEM | XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP
  if (xs.env.multiBuffer) known |= XDP_USE_SG
  if ((flags & ~known) !== 0) return -ERRNO.EINVAL
  if (sk.boundDevIf !== 0 && sk.boundDevIf !== addr.ifindex) return -ERRNO.EINVAL
  if (xs.state !== XSK_READY) return -ERRNO.EBUSY
  const dev = xs.env.devs.devices[addr.ifindex] ?? null
  if (dev === null || dev.ns !== sk.net.id) return -ERRNO.ENODEV
  if (xs.rx === null && xs.tx === null) return -ERRNO.EINVAL
  // The socket keeps 16 bits of the queue.
  const queue = addr.queueId & 0xffff
  const pool =
    (flags & XDP_SHARED_UMEM) !== 0 ? bindShared(cpu, xs, addr, dev, addr.queueId) : bindOwn(cpu, xs, dev, queue, flags)
  if (typeof pool === 'number') return pool
  xs.pool = pool
  xs.fqTmp = null
  xs.cqTmp = null
  xs.dev = dev
  xs.devId = dev.id
  xs.umem = pool.umem
  xs.zc = pool.umem.zc
  xs.sg = pool.umem.sg
  xs.queueId = queue
  // Models xp_add_xsk.
  if (xs.tx !== null) pool.xskTxList.unshift(xs)
  xs.state = XSK_BOUND
  return 0
}

/** A socket with an area and rings of its own. @returns its pool, or a negative errno. */
function bindOwn(cpu: Cpu, xs: XdpSock, dev: NetDevice, queue: number, flags: number): XskBuffPool | number {
  if (xs.umem === null || xs.fqTmp === null || xs.cqTmp === null) return -ERRNO.EINVAL
  const pool = xpCreateAndAssignUmem(xs.env, xs, xs.umem)
  const err = xpAssignDev(cpu, pool, dev, queue, flags)
  if (err !== 0) {
    xpDestroy(pool)
    return err
  }
  return pool
}

/** A socket that uses the area of another one, and on the same queue its pool. */
function bindShared(cpu: Cpu, xs: XdpSock, addr: SockaddrXdp, dev: NetDevice, queueId: number): XskBuffPool | number {
  // What the other socket has chosen holds for this one.
  if ((addr.flags & (XDP_COPY | XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP | XDP_USE_SG)) !== 0) return -ERRNO.EINVAL
  if (xs.umem !== null) return -ERRNO.EINVAL
  if (addr.sharedUmem < 0) return addr.sharedUmem
  const other = xs.env.socks.socks[addr.sharedUmem] ?? null
  if (other === null) return -ERRNO.ENOTSOCK
  if (other.family !== AF_XDP) return -ERRNO.ENOPROTOOPT
  const from = xdpSk(other)
  if (!xskIsBound(from)) return -ERRNO.EBADF
  const umem = from.umem!
  if (from.queueId === queueId && from.dev === dev) {
    if (xs.fqTmp !== null || xs.cqTmp !== null) return -ERRNO.EINVAL
    xpGetPool(from.pool!)
    xdpGetUmem(umem)
    return from.pool!
  }
  if (xs.fqTmp === null || xs.cqTmp === null) return -ERRNO.EINVAL
  const pool = xpCreateAndAssignUmem(xs.env, xs, umem)
  let flags = umem.zc ? XDP_ZEROCOPY : XDP_COPY
  if (from.pool!.usesNeedWakeup) flags |= XDP_USE_NEED_WAKEUP
  if (umem.sg) flags |= XDP_USE_SG
  const err = xpAssignDev(cpu, pool, dev, queueId & 0xffff, flags)
  if (err !== 0) {
    xpDestroy(pool)
    return err
  }
  xdpGetUmem(umem)
  return pool
}

/** Models `xp_assign_dev` (net/xdp/xsk_buff_pool.c). @returns 0 or a negative errno, with the queue free as before. */
function xpAssignDev(cpu: Cpu, pool: XskBuffPool, dev: NetDevice, queue: number, flags: number): number {
  const forceZc = (flags & XDP_ZEROCOPY) !== 0
  const forceCopy = (flags & XDP_COPY) !== 0
  if (forceZc && forceCopy) return -ERRNO.EINVAL
  if ((dev.xskPools[queue] ?? null) !== null) return -ERRNO.EBUSY
  if (queue >= Math.max(dev.realNumRxQueues, dev.realNumTxQueues)) return -ERRNO.EINVAL
  const drv = new XskPoolDrv(pool)
  dev.xskPools[queue] = drv
  pool.netdev = dev
  pool.queueId = queue
  const hadSg = pool.umem.sg
  if ((flags & XDP_USE_SG) !== 0) pool.umem.sg = true
  pool.usesNeedWakeup = (flags & XDP_USE_NEED_WAKEUP) !== 0
  // The first send always needs a call, and drivers without the feature always do.
  pool.cachedNeedWakeup = XDP_WAKEUP_TX
  if (forceCopy) return 0
  const err = setupZeroCopy(cpu, pool, drv, dev, queue)
  if (err === 0) {
    pool.umem.zc = true
    return 0
  }
  if (!forceZc) return 0
  dev.xskPools[queue] = null
  pool.netdev = null
  pool.umem.sg = hadSg
  return err
}

/** The driver maps the area and takes its buffers from there. @returns 0 or a negative errno. */
function setupZeroCopy(cpu: Cpu, pool: XskBuffPool, drv: XskPoolDrv, dev: NetDevice, queue: number): number {
  const { xskPoolSetup, xskWakeup } = dev.ops
  if (xskPoolSetup === undefined || xskWakeup === undefined) return -ERRNO.ENOTSUP
  // A packet must fit one chunk when the program or its user knows no other.
  if (!pool.umem.sg && dev.mtu + ETH_HLEN + 4 > pool.frameBytes) return -ERRNO.EINVAL
  return xskPoolSetup(dev, drv, queue, cpu)
}
