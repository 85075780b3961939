/**
 * TCP's start on a machine: its two protocols with one memory account, the handlers of its timers and of IP,
 * and how a new socket is filled.
 */
import type { Cpu } from '@netmem/base'
import { registerSkbDestructor } from '@netmem/skbuff'
import {
  AF_INET,
  AF_INET6,
  IPPROTO_TCP,
  type Proto,
  protoRegister,
  SOCK_STREAM,
  SOCKF_RCU_FREE,
  SOCKF_USE_WRITE_QUEUE,
  type Sock,
  sharedProtoState,
  skSocketsAllocatedInc,
  skStreamWriteSpace,
  tcpProtCreate,
} from '@netmem/sockmem'
import { tlsChargedBytes } from '@netmem/zerocopy'
import type { InetEnv } from '../inet-env.js'
import { inet6AddProtocol, inetAddProtocol, inetRegisterProtosw } from '../inet-env.js'
import { TcpIp } from './tcp-af.js'
import { tcpCaDefault } from './tcp-ca-table.js'
import { tcpSockDestruct } from './tcp-destroy.js'
import { TcpEnv } from './tcp-env.js'
import { MIB } from './tcp-mib.js'
import { inetTwskKill } from './tcp-minisocks.js'
import { tcpStreamOps } from './tcp-ops.js'
import { tcpDoRcv, tcpV4Rcv, tcpV6Rcv } from './tcp-rcv.js'
import { reqskTimerHandler } from './tcp-request.js'
import { TcpSock, tcpSk } from './tcp-sock.js'
import { tcpSysctls } from './tcp-sysctls.js'
import { tcpSetKeepalive, tcpTimerHandler } from './tcp-timer.js'
import { tcpReleaseCb, tcpTsqHandler, tcpWfree } from './tcp-tsq.js'
import { tcpPureZcopyBytes } from './tcp-zerocopy.js'
import { TickTimers } from './tick-timers.js'

/**
 * Models `tcp_init` and `inet_init`'s part for TCP.
 *
 * @param seed of initial sequence numbers and ports.
 */
export function tcpInit(inet: InetEnv, seed: number): TcpEnv {
  const { socks } = inet
  const env = new TcpEnv(socks, socks.cpus, seed)
  env.ip = new TcpIp(inet)
  env.zerocopy = inet.zerocopy
  inet.owned.tcp = env
  socks.tcpWfree = registerSkbDestructor(inet.skbs, (cpu, skb) => tcpWfree(socks, cpu, skb))
  registerClockHandlers(env)
  const shared = sharedProtoState(socks)
  env.proto = registerProto(env, tcpProtCreate(socks, shared, false))
  env.proto6 = registerProto(env, tcpProtCreate(socks, shared, true))
  inetAddProtocol(inet, { protocol: IPPROTO_TCP, handler: (cpu, skb) => tcpV4Rcv(env, cpu, skb) })
  inet6AddProtocol(inet, { protocol: IPPROTO_TCP, handler: (cpu, skb) => tcpV6Rcv(env, cpu, skb) })
  const init = (cpu: Cpu, sk: Sock): number => tcpInitSock(env, cpu, sk)
  const common = { type: SOCK_STREAM, protocol: IPPROTO_TCP, ops: tcpStreamOps, init }
  inetRegisterProtosw(inet, { ...common, family: AF_INET, proto: env.proto })
  inetRegisterProtosw(inet, { ...common, family: AF_INET6, proto: env.proto6 })
  return env
}

/** @returns a machine's TCP, once `tcpInit` has run. */
export const tcpOf = (inet: InetEnv): TcpEnv => inet.owned.tcp as TcpEnv

function registerProto(env: TcpEnv, proto: Proto): Proto {
  proto.backlogRcv = tcpDoRcv
  proto.releaseCb = tcpReleaseCb
  proto.keepalive = tcpSetKeepalive
  // Records of kTLS are charged and in no queue yet; pages that users lend are in a queue and not charged.
  proto.uncharged = (sk) => tcpPureZcopyBytes(sk) - tlsChargedBytes(sk)
  proto.ownQueues = (sk, queue) => {
    if (sk.priv === null) return
    queue(tcpSk(sk).outOfOrderQueue.first, 'out-of-order queue')
    queue(tcpSk(sk).rtxQueue.first, 'retransmit queue')
  }
  protoRegister(env.socks, proto)
  return proto
}

function registerClockHandlers(env: TcpEnv): void {
  const { clock, ip } = env
  const softirq = (work: (cpu: Cpu) => void): void => {
    const cpu = env.cpus[0]!
    ip.softirqEnter(cpu)
    work(cpu)
    ip.softirqExit(cpu)
  }
  env.tickTimers = new TickTimers(clock, env.jiffyNs, (timer, sockId, which) => {
    const sk = env.sockById(sockId)
    if (sk?.proto.isTcp === true && tcpSk(sk).events[which] === timer) tcpTimerHandler(env, sockId, which)
  })
  env.timerHandler = clock.register((sockId, which) => tcpTimerHandler(env, sockId, which))
  env.requestTimerHandler = clock.register((id) =>
    softirq((cpu) => {
      const req = env.requests[id]
      if (req != null) reqskTimerHandler(cpu, req)
    }),
  )
  env.twTimerHandler = clock.register((id) =>
    softirq((cpu) => {
      const tw = env.timewaits[id]
      if (tw != null) inetTwskKill(cpu, tw, MIB.TW)
    }),
  )
  env.tsqHandler = clock.register((sockId) =>
    softirq((cpu) => {
      const sk = env.sockById(sockId)
      if (sk !== null) tcpTsqHandler(cpu, sk)
    }),
  )
}

/** Models `tcp_init_sock` (net/ipv4/tcp.c). @returns 0. */
function tcpInitSock(env: TcpEnv, cpu: Cpu, sk: Sock): number {
  const ctl = tcpSysctls(sk.net)
  const tp = new TcpSock(sk, env, ctl, tcpCaDefault(sk.net.sysctls.text('net.ipv4.tcp_congestion_control')))
  sk.priv = tp
  tp.rto = env.timeoutInit
  tp.mdevUs = 1e6
  tp.appLimited = -1
  tp.reordering = ctl.reordering[0]!
  tp.minRttStamp = env.jiffies()
  if (sk.family === AF_INET6) tp.netHeaderLen = 40
  sk.writeSpace = skStreamWriteSpace
  sk.destruct = tcpSockDestruct
  sk.flags |= SOCKF_USE_WRITE_QUEUE
  sk.flags &= ~SOCKF_RCU_FREE
  sk.sndbuf = ctl.wmem[1]!
  sk.rcvbuf = ctl.rmem[1]!
  skSocketsAllocatedInc(cpu, sk)
  return 0
}
