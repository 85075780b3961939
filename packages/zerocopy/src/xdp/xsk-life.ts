/** From socket() to close(), and a device that goes away under its sockets. */
import { type Cpu, ERRNO } from '@netmem/base'
import {
  AF_XDP,
  CAP_NET_RAW,
  capable,
  type NetNs,
  SOCK_RAW,
  SOCKF_DEAD,
  SOCKF_RCU_FREE,
  type Sock,
  skAlloc,
  sockInitData,
  sockOrphan,
  sockPut,
  type Task,
} from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import { xdpPutUmem } from './xdp-umem.js'
import type { XskEnv } from './xsk-env.js'
import { xpClearDev, xpPutPool } from './xsk-pool-life.js'
import { xskqDestroy } from './xsk-queue.js'
import { xskFlush } from './xsk-rcv.js'
import { XdpSock, xdpSk } from './xsk-sock.js'
import { XSK_BOUND, XSK_UNBOUND } from './xsk-state.js'
import { xskDropSkb } from './xsk-xmit.js'

/**
 * Models `xsk_create` (net/xdp/xsk.c).
 *
 * @returns the socket's id; -EPERM without CAP_NET_RAW, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT, -ENOBUFS without memory.
 */
export function xskCreate(env: XskEnv, cpu: Cpu, task: Task, net: NetNs, type: number, protocol: number): number {
  if (!capable(task, CAP_NET_RAW)) return -ERRNO.EPERM
  if (type !== SOCK_RAW) return -ERRNO.ESOCKTNOSUPPORT
  if (protocol !== 0) return -ERRNO.EPROTONOSUPPORT
  const sk = skAlloc(env.socks, cpu, task, net, AF_XDP, env.mem.gfp.GFP_KERNEL, env.proto, env.ops)
  if (sk === null) return -ERRNO.ENOBUFS
  sockInitData(sk)
  sk.type = type
  sk.flags |= SOCKF_RCU_FREE
  sk.destruct = xskDestruct
  const xs = new XdpSock(env, sk)
  sk.priv = xs
  env.all.push(xs)
  net.protoInuse[env.proto.inuseIndex]!++
  return sk.id
}

/** Models `xsk_release` (net/xdp/xsk.c). Takes the user's reference. */
export function xskRelease(cpu: Cpu, sk: Sock): number {
  const xs = xdpSk(sk)
  if (xs.skb !== null) xskDropSkb(cpu, xs)
  sk.net.protoInuse[xs.env.proto.inuseIndex]!--
  for (const map of [...xs.maps]) map.remove(xs)
  xskUnbindDev(cpu, xs)
  xskqDestroy(cpu, xs.rx)
  xskqDestroy(cpu, xs.tx)
  xskqDestroy(cpu, xs.fqTmp)
  xskqDestroy(cpu, xs.cqTmp)
  xs.rx = null
  xs.fqTmp = null
  xs.cqTmp = null
  sockOrphan(cpu, sk)
  sockPut(cpu, sk)
  return 0
}

/** Models `xsk_unbind_dev`. What a poll has received and not flushed is published first, as `synchronize_net` sees to. */
export function xskUnbindDev(cpu: Cpu, xs: XdpSock): void {
  if (xs.state !== XSK_BOUND) return
  for (const { xdpFlush } of xs.env.devs.softnet) {
    const at = xdpFlush.xsks.indexOf(xs)
    if (at < 0) continue
    xdpFlush.xsks.splice(at, 1)
    xskFlush(cpu, xs)
  }
  xs.state = XSK_UNBOUND
  const { xskTxList } = xs.pool!
  const at = xskTxList.indexOf(xs)
  if (at >= 0) xskTxList.splice(at, 1)
}

/** Models `xsk_destruct`: pool or area go with their last socket. */
function xskDestruct(cpu: Cpu, sk: Sock): void {
  if ((sk.flags & SOCKF_DEAD) === 0) return
  const xs = xdpSk(sk)
  const { env, umem } = xs
  xs.tx = null
  env.all.splice(env.all.indexOf(xs), 1)
  if (xpPutPool(xs.pool) || umem === null) return
  if (xs.pool !== null) xdpPutUmem(env, cpu, umem)
  else env.scheduleWork((worker) => xdpPutUmem(env, worker, umem))
}

/** Models `xsk_notifier`: a device goes, and its sockets stay behind without one. */
export function xskNetdevUnregister(env: XskEnv, cpu: Cpu, dev: NetDevice): void {
  for (const xs of env.all) {
    if (xs.dev !== dev) continue
    xs.sk.err = ERRNO.ENETDOWN
    if ((xs.sk.flags & SOCKF_DEAD) === 0) xs.sk.errorReport(cpu, xs.sk)
    xskUnbindDev(cpu, xs)
    if (xs.pool !== null) xpClearDev(cpu, xs.pool)
  }
}
