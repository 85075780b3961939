/**
 * Making sockets by family, and the SOL_SOCKET entry points of the system calls.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { AF_UNIX } from './constants.js'
import type { Sock } from './sock.js'
import { sockAllocInode, sockFreeInode, sockGraft } from './sock-alloc.js'
import type { SockEnv } from './sock-env.js'
import { sockSetsockopt } from './sockopt.js'
import { sockGetsockopt } from './sockopt-get.js'
import { type OptVal, SOL_SOCKET } from './sockopt-numbers.js'
import type { Task } from './task.js'

/** `SOCK_MAX`: types from here on do not exist. */
const SOCK_MAX = 11

/**
 * Models `sock_create` and `__sock_create` (net/socket.c): the user's end first, then the family's socket.
 *
 * @returns the socket's id, which the caller owns through its user's end; or -EAFNOSUPPORT, -EINVAL, -ENFILE or what the
 * family answers.
 */
export function sockCreate(env: SockEnv, cpu: Cpu, task: Task, family: number, type: number, protocol: number): number {
  if (family < 0) return -ERRNO.EAFNOSUPPORT
  if (type < 0 || type >= SOCK_MAX) return -ERRNO.EINVAL
  const inode = sockAllocInode(env, cpu)
  if (inode === 0) return -ERRNO.ENFILE
  const ops = env.families[family]
  const id = ops == null ? -ERRNO.EAFNOSUPPORT : ops.create(cpu, task, task.net, type, protocol, false)
  if (id < 0) {
    sockFreeInode(env, cpu, inode)
    return id
  }
  sockGraft(env.socks[id] as Sock, inode)
  return id
}

/**
 * Models `__sys_socketpair`: two sockets and their connection, or nothing.
 *
 * @param out receives the two ids. @returns 0 or a negative errno.
 */
export function sockSocketpair(
  env: SockEnv,
  cpu: Cpu,
  task: Task,
  type: number,
  protocol: number,
  out: Int32Array,
): number {
  const a = sockCreate(env, cpu, task, AF_UNIX, type, protocol)
  if (a < 0) return a
  const b = sockCreate(env, cpu, task, AF_UNIX, type, protocol)
  const first = env.socks[a] as Sock
  if (b < 0) {
    first.ops.release(cpu, task, first)
    return b
  }
  const second = env.socks[b] as Sock
  const err = first.ops.socketpair === undefined ? -ERRNO.ENOTSUP : first.ops.socketpair(cpu, task, first, second)
  if (err < 0) {
    first.ops.release(cpu, task, first)
    second.ops.release(cpu, task, second)
    return err
  }
  out[0] = a
  out[1] = b
  return 0
}

/** Models `do_sock_setsockopt`: SOL_SOCKET here, unless the family wants to see it; all else in the family. */
export function doSockSetsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number {
  if (val.len < 0) return -ERRNO.EINVAL
  if (level === SOL_SOCKET && sk.ops.customSockopt !== true) return sockSetsockopt(cpu, task, sk, opt, val)
  return sk.ops.setsockopt(cpu, task, sk, level, opt, val)
}

/** Models `do_sock_getsockopt`. */
export function doSockGetsockopt(cpu: Cpu, task: Task, sk: Sock, level: number, opt: number, val: OptVal): number {
  if (level === SOL_SOCKET) return sockGetsockopt(cpu, sk, opt, val)
  return sk.ops.getsockopt(cpu, task, sk, level, opt, val)
}

/** Models `sock_release`: the user's end goes; what the family still needs of the socket lives on. */
export function sockRelease(cpu: Cpu, task: Task, sk: Sock): number {
  return sk.ops.release(cpu, task, sk)
}
