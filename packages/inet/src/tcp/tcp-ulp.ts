/** Protocols that stand between TCP and its user (`TCP_ULP`): the registry of them, and how one is attached. */
import { type Cpu, ERRNO } from '@netmem/base'
import { type Sock, TCP_LISTEN } from '@netmem/sockmem'
import type { TcpEnv } from './tcp-env.js'
import { tcpSk } from './tcp-sock.js'

/** Models `TCP_ULP_NAME_MAX`. */
export const TCP_ULP_NAME_MAX = 16

/** Models `struct tcp_ulp_ops`. */
export interface TcpUlpOps {
  readonly name: string
  /** Replaces the socket's operations. @returns 0 or a negative errno. */
  init(cpu: Cpu, sk: Sock): number
  /** Whether children of a listener inherit it. */
  readonly clone?: boolean
}

/** Models `tcp_register_ulp` (net/ipv4/tcp_ulp.c). @returns 0, or -EEXIST when the name is taken. */
export function tcpRegisterUlp(env: TcpEnv, ops: TcpUlpOps): number {
  if (env.ulps.some((known) => known.name === ops.name)) return -ERRNO.EEXIST
  env.ulps.push(ops)
  return 0
}

/** Models `tcp_set_ulp` (net/ipv4/tcp_ulp.c). @returns 0, -ENOENT for an unknown name, -EEXIST when there is one already, or what it says. */
export function tcpSetUlp(cpu: Cpu, sk: Sock, name: string): number {
  const tp = tcpSk(sk)
  const ops = tp.env.ulps.find((known) => known.name === name)
  if (ops === undefined) return -ERRNO.ENOENT
  if (tp.ulpOps !== null) return -ERRNO.EEXIST
  if (ops.clone !== true && sk.state === TCP_LISTEN) return -ERRNO.ENOTCONN
  const err = ops.init(cpu, sk)
  if (err === 0) tp.ulpOps = ops
  return err
}
