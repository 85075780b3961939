/** Raw sockets of IPv4 as the system calls see them. */
import { type Cpu, ERRNO } from '@netmem/base'
import { consumeSkb, type SkBuff, skbCopyDatagramIter, skbPeek } from '@netmem/skbuff'
import {
  AF_INET,
  AF_UNSPEC,
  datagramPoll,
  IPPROTO_RAW,
  MSG_ERRQUEUE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  type Msg,
  mibIndex,
  SIOCINQ,
  SIOCOUTQ,
  type Sock,
  type SockOps,
  skbRecvDatagram,
  skWmemAllocGet,
  sockOrphan,
  sockPut,
  type Task,
  TCP_CLOSE,
  TCP_ESTABLISHED,
} from '@netmem/sockmem'
import { inetBind, inetGetname, shutdownBits } from '../af-inet.js'
import { inetDestroySock } from '../inet-destroy.js'
import type { InetEnv } from '../inet-env.js'
import { InetSock, inetOf } from '../inet-sock.js'
import { IpcmCookie } from '../ip/cork.js'
import { flushFrames, MsgSource } from '../ip/ip-append.js'
import { ipAppendData, ipCorkRelease, ipMakeSkbFrom } from '../ip/ip-make.js'
import { ipSendSkb } from '../ip/ip-output.js'
import { ipGetsockopt, ipRecvError, ipSetsockopt, SOL_IP } from '../ip/ip-sockglue.js'
import { fibLookup } from '../route.js'
import { rawTableOf } from './raw-deliver.js'

const IP_OUT_NO_ROUTES = mibIndex('Ip.OutNoRoutes')

/** Models `raw_sk_init` with `raw_hash_sk`. */
export function rawInitSock(env: InetEnv, _cpu: Cpu, sk: Sock): number {
  const inet = new InetSock()
  inet.hdrincl = sk.protocol === IPPROTO_RAW
  sk.priv = { inet }
  sk.destruct = inetDestroySock
  sk.num = sk.protocol
  rawTableOf(env).socks.push(sk)
  env.rawSockets += 1
  return 0
}

/** Models `raw_sendmsg` (net/ipv4/raw.c) for sockets that do not bring their own header. */
function rawSendmsg(env: InetEnv, cpu: Cpu, task: Task, sk: Sock, msg: Msg, len: number): number {
  if (len > 0xffff) return -ERRNO.EMSGSIZE
  if ((msg.flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  const { name } = msg
  let daddr = sk.daddr
  if (name.family !== AF_UNSPEC) {
    if (name.family !== AF_INET) return -ERRNO.EAFNOSUPPORT
    daddr = name.addr
  } else if (sk.state !== TCP_ESTABLISHED) return -ERRNO.EDESTADDRREQ
  const inet = inetOf(sk)
  if (inet.hdrincl) return -ERRNO.ENOTSUP
  const route = fibLookup(env.netOf(sk.net), daddr, sk.boundDevIf)
  if (route === null) {
    sk.net.mib[IP_OUT_NO_ROUTES] += 1
    return -ERRNO.ENETUNREACH
  }
  const { cork } = inet
  cork.saddr = sk.saddr !== 0 ? sk.saddr : route.source
  cork.daddr = daddr
  const source = new MsgSource()
  source.msg = msg
  const ipc = new IpcmCookie()
  let err = ipAppendData(env, cpu, sk, cork, task.taskFrag, source, len, 0, ipc, route.dst, msg.flags)
  if (err !== 0) {
    flushFrames(env, cpu, sk.writeQueue, cork, '__ip_flush_pending_frames')
    ipCorkRelease(env, cpu, cork, 'ip_cork_release')
    return err
  }
  const skb = ipMakeSkbFrom(env, cpu, sk, sk.writeQueue, cork)
  if (skb !== null) err = ipSendSkb(env, cpu, sk.net, skb)
  return err === 0 || (err === -ERRNO.ENOBUFS && !inet.recverr) ? len : err
}

/** Models `raw_recvmsg`. */
function rawRecvmsg(cpu: Cpu, sk: Sock, msg: Msg, len: number, flags: number): number {
  if ((flags & MSG_OOB) !== 0) return -ERRNO.ENOTSUP
  if ((flags & MSG_ERRQUEUE) !== 0) return ipRecvError(cpu, sk, msg, len)
  const skb: SkBuff | null = skbRecvDatagram(sk, flags & MSG_PEEK, { offset: -1 })
  if (skb === null) return sk.env.lastError
  const whole = skb.len
  const copied = Math.min(whole, len)
  if (len < whole) msg.msgFlags |= MSG_TRUNC
  const err = skbCopyDatagramIter(cpu, skb, 0, msg.iter, copied)
  if (err === 0 && msg.wantName) {
    msg.name.family = AF_INET
    msg.name.addr = sk.env.mem.dv.getInt32(((skb.head + skb.networkHeader) >>> 0) + 12)
    msg.name.port = 0
  }
  consumeSkb(cpu, skb, 'skb_free_datagram')
  if (err !== 0) return err
  return (flags & MSG_TRUNC) !== 0 ? whole : copied
}

function rawRelease(env: InetEnv, cpu: Cpu, sk: Sock): number {
  const { socks } = rawTableOf(env)
  const at = socks.indexOf(sk)
  if (at >= 0) {
    socks.splice(at, 1)
    env.rawSockets -= 1
  }
  sockOrphan(cpu, sk)
  sockPut(cpu, sk)
  return 0
}

/** Models `inet_sockraw_ops` with `raw_prot`. */
export function rawSockOps(env: InetEnv): SockOps {
  return {
    name: 'raw',
    bind: (_cpu, task, sk, addr) => {
      sk.num = 0
      const err = inetBind(env, task, sk, addr, () => 0)
      sk.num = sk.protocol
      return err
    },
    connect: (_cpu, _task, sk, addr) => {
      if (addr.family === AF_UNSPEC) {
        sk.state = TCP_CLOSE
        sk.daddr = 0
        return 0
      }
      if (addr.family !== AF_INET) return -ERRNO.EAFNOSUPPORT
      const route = fibLookup(env.netOf(sk.net), addr.addr, sk.boundDevIf)
      if (route === null) return -ERRNO.ENETUNREACH
      sk.daddr = addr.addr
      if (sk.saddr === 0) sk.saddr = route.source
      sk.state = TCP_ESTABLISHED
      return 0
    },
    listen: () => -ERRNO.ENOTSUP,
    accept: () => -ERRNO.ENOTSUP,
    getname: inetGetname,
    sendmsg: (cpu, task, sk, msg, len) => rawSendmsg(env, cpu, task, sk, msg, len),
    recvmsg: (cpu, _task, sk, msg, len, flags) => rawRecvmsg(cpu, sk, msg, len, flags),
    poll: (_cpu, sk) => datagramPoll(sk),
    shutdown: (_cpu, _task, sk, how) => {
      const bits = shutdownBits(how)
      if (bits < 0) return bits
      sk.shutdown |= bits
      return sk.state === TCP_CLOSE ? -ERRNO.ENOTCONN : 0
    },
    setsockopt: (cpu, _task, sk, level, opt, val) =>
      level === SOL_IP ? ipSetsockopt(cpu, sk, opt, val) : -ERRNO.ENOPROTOOPT,
    getsockopt: (_cpu, _task, sk, level, opt, val) =>
      level === SOL_IP ? ipGetsockopt(sk, opt, val) : -ERRNO.ENOPROTOOPT,
    ioctl: (_cpu, _task, sk, cmd) => {
      if (cmd === SIOCOUTQ) return skWmemAllocGet(sk)
      if (cmd === SIOCINQ) return skbPeek(sk.receiveQueue)?.len ?? 0
      return -ERRNO.ENOTTY
    },
    release: (cpu, _task, sk) => rawRelease(env, cpu, sk),
  }
}
