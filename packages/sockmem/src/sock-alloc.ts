/**
 * Birth and death of a socket. Two counts keep it: `refcnt`, held by users and tables, and `wmemAlloc`,
 * held by packets on their way out; a socket whose user is long gone lives until its last packet is freed.
 */
import { type Addr, assert, bug, type Cpu, type Gfp, NULL } from '@netmem/base'
import { kfree, kmalloc, kmemCacheAlloc, kmemCacheFree } from '@netmem/memory'
import { PageFrag, pageFragRelease } from '@netmem/page-frag'
import { AF_INET6, SOCKF_DEAD, SOCKF_KERN, SOCKF_RCU_FREE, SS_UNCONNECTED } from './constants.js'
import { memCgroupSkAlloc, memCgroupSkFree } from './memcg.js'
import { skSocketsAllocatedInc } from './memory-allocated.js'
import type { NetNs } from './net-ns.js'
import type { Proto } from './proto.js'
import { skFilterUncharge } from './sk-filter.js'
import { Sock, SockV6 } from './sock.js'
import type { SockEnv } from './sock-env.js'
import type { SockOps } from './sock-ops.js'
import type { Task } from './task.js'
import { sockDefDestruct, sockDefErrorReport, sockDefReadable, sockDefWakeup, sockDefWriteSpace } from './wakeup.js'

/**
 * Models `sk_alloc` and `sk_prot_alloc` (net/core/sock.c): the socket object from its protocol's cache.
 *
 * @param task who makes it, for the memory group; null in softirq.
 * @param kern true for sockets of the kernel itself, which are not counted in the namespace.
 * @returns the socket with one reference, or null without memory.
 */
export function skAlloc(
  env: SockEnv,
  cpu: Cpu,
  task: Task | null,
  net: NetNs,
  family: number,
  gfp: Gfp,
  proto: Proto,
  ops: SockOps,
  kern = false,
): Sock | null {
  const addr = skProtAlloc(env, cpu, gfp, proto)
  if (addr === NULL) return null
  const sk = newSock(env, net, proto, ops)
  sk.addr = addr
  sk.family = family
  if (family === AF_INET6) sk.v6 = new SockV6()
  if (kern) sk.flags |= SOCKF_KERN
  else net.socketsInuse += 1
  if (task !== null) memCgroupSkAlloc(cpu, sk, task)
  return sk
}

function skProtAlloc(env: SockEnv, cpu: Cpu, gfp: Gfp, proto: Proto): Addr {
  assert(proto.inuseIndex >= 0, 'sockets of a protocol that is not registered')
  const addr =
    proto.cache === null
      ? kmalloc(env.mem, cpu, proto.objSize, gfp, 'sk_prot_alloc')
      : kmemCacheAlloc(proto.cache, cpu, gfp, 'sk_prot_alloc')
  if (addr !== NULL) proto.sockets += 1
  return addr
}

function newSock(env: SockEnv, net: NetNs, proto: Proto, ops: SockOps): Sock {
  const id = env.freeIds.pop() ?? env.socks.length
  const sk = new Sock(id, env, net, proto, ops, sockDefDestruct)
  env.socks[id] = sk
  return sk
}

/** Models `sock_init_data` (net/core/sock.c): the defaults every new socket starts with. */
export function sockInitData(sk: Sock): void {
  const { env } = sk
  sk.rcvbuf = env.rmemDefault[0] | 0
  sk.sndbuf = env.wmemDefault[0] | 0
  sk.allocation = env.mem.gfp.GFP_KERNEL
  sk.llUsec = env.busyRead[0] | 0
  sk.stateChange = sockDefWakeup
  sk.dataReady = sockDefReadable
  sk.writeSpace = sockDefWriteSpace
  sk.errorReport = sockDefErrorReport
  sk.destruct = sockDefDestruct
}

/**
 * Models `sock_alloc` (net/socket.c) with `sock_graft`: the user's end of a socket, an inode of its own.
 *
 * @returns false without memory.
 */
export function sockAllocSocket(cpu: Cpu, sk: Sock): boolean {
  const addr = sockAllocInode(sk.env, cpu)
  if (addr === NULL) return false
  sockGraft(sk, addr)
  return true
}

/** Models `sock_alloc_inode`. @returns its address, or NULL. The caller owns it until `sockGraft`. */
export function sockAllocInode(env: SockEnv, cpu: Cpu): Addr {
  return kmemCacheAlloc(env.socketCache, cpu, env.mem.gfp.GFP_KERNEL, 'sock_alloc_inode')
}

/** Models `sock_graft`: the user's end takes the socket. */
export function sockGraft(sk: Sock, inode: Addr): void {
  assert(sk.socket === 0, 'socket already has a user')
  sk.socket = inode
  sk.socketState = SS_UNCONNECTED
}

/** Models `iput` of a socket's inode: freed after a grace period on its own, so recordings show nothing. */
export function sockFreeInode(env: SockEnv, cpu: Cpu, inode: Addr): void {
  env.rcu.running += 1
  kmemCacheFree(env.socketCache, cpu, inode, 'sock_free_inode')
  env.rcu.running -= 1
}

/** Models `sock_orphan`: the user is gone, the protocol keeps the socket. */
export function sockOrphan(cpu: Cpu, sk: Sock): void {
  sk.flags |= SOCKF_DEAD
  if (sk.socket === 0) return
  sockFreeInode(sk.env, cpu, sk.socket)
  sk.socket = NULL
}

/** Models `sock_hold`. */
export function sockHold(sk: Sock): void {
  sk.refcnt += 1
}

/** The function that frees the socket object, where calls on the way to it are not compiled into jumps. */
const SK_DESTRUCT = '__sk_destruct'

/**
 * Models `sock_put`: drops a reference; the last one starts the end.
 *
 * @param site the kernel function that the free of the object is reported at: the caller's, where all calls on
 * the way down are jumps.
 */
export function sockPut(cpu: Cpu, sk: Sock, site = SK_DESTRUCT): void {
  assert(sk.refcnt > 0, 'refcount underflow on a socket')
  sk.refcnt -= 1
  if (sk.refcnt === 0) skFree(cpu, sk, site)
}

/** Models `sk_free` (net/core/sock.c): the socket's own unit of `wmemAlloc` goes; packets in flight keep it alive. */
export function skFree(cpu: Cpu, sk: Sock, site = SK_DESTRUCT): void {
  sk.wmemAlloc -= 1
  if (sk.wmemAlloc === 0) skFreeWmem(cpu, sk, site)
}

/** Models `__sk_free` and `sk_destruct`: lookups may still see some kinds of socket, which wait for a grace period. */
export function skFreeWmem(cpu: Cpu, sk: Sock, site = SK_DESTRUCT): void {
  if ((sk.flags & SOCKF_RCU_FREE) !== 0) sk.env.rcu.call(skDestructRcu, sk)
  else skDestruct(cpu, sk, site)
}

// Callbacks run in softirq on the first CPU, which is where grace periods end here.
function skDestructRcu(sk: Sock): void {
  const cpu = sk.env.cpus[0]
  cpu.servingSoftirq += 1
  cpu.bhDisabled += 1
  skDestruct(cpu, sk)
  cpu.bhDisabled -= 1
  cpu.servingSoftirq -= 1
}

/** Models `__sk_destruct` (net/core/sock.c). */
export function skDestruct(cpu: Cpu, sk: Sock, site = SK_DESTRUCT): void {
  const { env } = sk
  if (env.socks[sk.id] !== sk) bug('socket freed twice')
  sk.destruct(cpu, sk)
  if (sk.filter !== null) {
    skFilterUncharge(sk, sk.filter)
    sk.filter = null
  }
  if (sk.omemAlloc !== 0) env.trace.warn?.('__sk_destruct', `optmem leakage (${sk.omemAlloc} bytes)`)
  if (sk.fragPage !== 0) skReleaseFrag(cpu, sk)
  if ((sk.flags & SOCKF_KERN) === 0) sk.net.socketsInuse -= 1
  memCgroupSkFree(cpu, sk)
  if (sk.proto.cache === null) kfree(env.mem, cpu, sk.addr, site)
  else kmemCacheFree(sk.proto.cache, cpu, sk.addr, site)
  sk.proto.sockets -= 1
  sk.addr = NULL
  env.socks[sk.id] = null
  env.freeIds.push(sk.id)
}

function skReleaseFrag(cpu: Cpu, sk: Sock): void {
  const frag = new PageFrag()
  frag.page = sk.fragPage as typeof frag.page
  pageFragRelease(sk.env.mem, cpu, frag, '__sk_destruct')
  sk.fragPage = 0
  sk.fragOffset = 0
  sk.fragSize = 0
}

/**
 * Models `sk_clone_lock` (net/core/sock.c): the child of a listener, with its options and none of its charges.
 *
 * @returns the child with one reference, owned, without a user; null without memory.
 */
export function skCloneLock(cpu: Cpu, sk: Sock, gfp: Gfp): Sock | null {
  const { env } = sk
  const addr = skProtAlloc(env, cpu, gfp, sk.proto)
  if (addr === NULL) return null
  const child = newSock(env, sk.net, sk.proto, sk.ops)
  child.addr = addr
  child.family = sk.family
  child.type = sk.type
  child.protocol = sk.protocol
  child.state = sk.state
  child.rcvbuf = sk.rcvbuf
  child.sndbuf = sk.sndbuf
  child.userlocks = sk.userlocks & ~0xc
  child.flags = sk.flags & ~SOCKF_DEAD
  child.rcvlowat = sk.rcvlowat
  child.lingertime = sk.lingertime
  child.rcvtimeo = sk.rcvtimeo
  child.sndtimeo = sk.sndtimeo
  child.priority = sk.priority
  child.mark = sk.mark
  child.boundDevIf = sk.boundDevIf
  child.peekOff = sk.peekOff
  child.incomingCpu = cpu.id
  child.llUsec = sk.llUsec
  child.busyPollBudget = sk.busyPollBudget
  child.txrehash = sk.txrehash
  child.maxPacingRate = sk.maxPacingRate
  child.pacingRate = sk.pacingRate
  child.allocation = sk.allocation
  child.useTaskFrag = sk.useTaskFrag
  child.num = sk.num
  child.rcvSaddr = sk.rcvSaddr
  child.saddr = sk.saddr
  if (sk.v6 !== null) {
    child.v6 = new SockV6()
    child.v6.rcvSaddr.set(sk.v6.rcvSaddr)
    child.v6.saddr.set(sk.v6.saddr)
  }
  child.dataReady = sk.dataReady
  child.writeSpace = sk.writeSpace
  child.errorReport = sk.errorReport
  child.stateChange = sk.stateChange
  child.destruct = sk.destruct
  if (sk.filter !== null) {
    child.filter = sk.filter
    child.omemAlloc += sk.filter.bytes
  }
  sk.net.socketsInuse += 1
  // No group yet, whatever the listener's: who accepts the child pays for it (`memCgroupSkAccept`).
  skSocketsAllocatedInc(cpu, child)
  return child
}
