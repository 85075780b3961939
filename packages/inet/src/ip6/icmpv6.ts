/** ICMPv6: errors that quote the offending packet, and telling sockets about errors that come in. */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import { PageFrag, pageFragRelease } from '@netmem/page-frag'
import {
  consumeSkb,
  csumAdd,
  csumFold,
  csumPartial,
  kfreeSkb,
  PACKET_HOST,
  pskbMayPull,
  type SkBuff,
  skbChecksum,
  skbCopyBits,
  skbPullUnchecked,
} from '@netmem/skbuff'
import {
  AF_INET6,
  IPPROTO_ICMPV6,
  MSG_DONTWAIT,
  mibIndex,
  type Proto,
  SOCK_RAW,
  type Sock,
  type SockOps,
  skAlloc,
  sockInitData,
} from '@netmem/sockmem'
import { localBhDisable, localBhEnable } from '@netmem/virtual-nic'
import { icmpSlotsOf } from '../icmp-slots.js'
import { type InetEnv, inet6AddProtocol } from '../inet-env.js'
import type { InetNet } from '../inet-net.js'
import { InetSock, inetOf } from '../inet-sock.js'
import { IpcmCookie } from '../ip/cork.js'
import { type AppendSource, flushFrames } from '../ip/ip-append.js'
import { fib6Lookup } from '../route.js'
import { ip6AppendData, ip6MakeSkbFrom } from './ip6-make.js'
import { ip6SendSkb } from './ip6-output.js'
import { csumIpv6Nofold, IPV6_HLEN, IPV6_MIN_MTU, ipv6AddrIsMulticast, readIpv6Addr } from './ipv6-header.js'

const ICMP6_HLEN = 8
const ICMPV6_INFOMSG_MASK = 0x80

const IN_MSGS = mibIndex('Icmp6.InMsgs')
const IN_ERRORS = mibIndex('Icmp6.InErrors')
const IN_CSUM_ERRORS = mibIndex('Icmp6.InCsumErrors')
const IN_DEST_UNREACHS = mibIndex('Icmp6.InDestUnreachs')
const OUT_MSGS = mibIndex('Icmp6.OutMsgs')
const OUT_DEST_UNREACHS = mibIndex('Icmp6.OutDestUnreachs')
const OUT_TIME_EXCDS = mibIndex('Icmp6.OutTimeExcds')

class Icmpv6Message implements AppendSource {
  skb!: SkBuff
  offset = 0

  /** Models `icmpv6_getfrag`. */
  getfrag(_env: InetEnv, _cpu: Cpu, to: Addr, offset: number, bytes: number, _odd: number, skb: SkBuff): number {
    if (skbCopyBits(this.skb, this.offset + offset, to, bytes) !== 0) return -ERRNO.EFAULT
    skb.csum = csumAdd(skb.csum, csumPartial(skb.env, to, bytes, 0))
    return 0
  }

  zeroCopy(): null {
    return null
  }
}

class Icmpv6 {
  readonly message = new Icmpv6Message()
  readonly ipc = new IpcmCookie()
  readonly pfrag = new PageFrag()
  busy = false

  constructor(
    readonly env: InetEnv,
    readonly proto: Proto,
  ) {}
}

/** Models `icmpv6_init`. @param proto of raw sockets, which the namespace's own is. */
export function icmpv6Init(env: InetEnv, proto: Proto): void {
  const icmp = new Icmpv6(env, proto)
  icmpSlotsOf(env).icmp6Send = (cpu, skb, type, code, info) => icmp6Send(icmp, cpu, skb, type, code, info)
  inet6AddProtocol(env, { protocol: IPPROTO_ICMPV6, handler: (cpu, skb) => icmpv6Rcv(icmp, cpu, skb) })
}

function icmp6Sk(icmp: Icmpv6, cpu: Cpu, net: InetNet): Sock | null {
  if (net.icmp6Sk !== null) return net.icmp6Sk
  const { env } = icmp
  env.socks.rcu.running += 1
  const ops = { name: 'icmpv6' } as SockOps
  const sk = skAlloc(env.socks, cpu, null, net.net, AF_INET6, env.mem.gfp.GFP_KERNEL, icmp.proto, ops, true)
  env.socks.rcu.running -= 1
  if (sk === null) return null
  sockInitData(sk)
  sk.type = SOCK_RAW
  sk.protocol = IPPROTO_ICMPV6
  sk.allocation = env.mem.gfp.GFP_ATOMIC
  sk.useTaskFrag = 0
  sk.sndbuf = 2 * (64 * 1024 + env.skbs.sizes.headBytes + env.skbs.sizes.sharedInfoBytes)
  sk.priv = { inet: new InetSock() }
  net.icmp6Sk = sk
  return sk
}

/** Models `icmp6_send` (net/ipv6/icmp.c). */
function icmp6Send(icmp: Icmpv6, cpu: Cpu, skb: SkBuff, type: number, code: number, info: number): void {
  const { env, message } = icmp
  const dev = env.devs.devices[skb.dev]
  if (dev == null || icmp.busy || skb.pktType !== PACKET_HOST) return
  const net = env.netOfDev(dev)
  const hdr = (skb.head + skb.networkHeader) >>> 0
  const daddr = env.wordsAt(hdr + 8).slice()
  const saddr = env.wordsAt(hdr + 24).slice()
  if (ipv6AddrIsMulticast(saddr) || ipv6AddrIsMulticast(daddr)) return
  if (env.mem.u8[hdr + 6] === IPPROTO_ICMPV6 && (env.mem.u8[hdr + IPV6_HLEN] & ICMPV6_INFOMSG_MASK) === 0) return
  const route = fib6Lookup(net, daddr, 0)
  if (route === null) return
  localBhDisable(cpu)
  const sk = icmp6Sk(icmp, cpu, net)
  if (sk !== null) {
    const { cork } = inetOf(sk)
    cork.saddr6.set(saddr)
    cork.daddr6.set(daddr)
    message.skb = skb
    message.offset = (hdr - (skb.data >>> 0)) | 0
    const quoted = Math.min(skb.len - message.offset, IPV6_MIN_MTU - IPV6_HLEN - ICMP6_HLEN)
    const len = quoted + ICMP6_HLEN
    icmp.busy = true
    const err = ip6AppendData(
      env,
      cpu,
      sk,
      cork,
      icmp.pfrag,
      message,
      len,
      ICMP6_HLEN,
      icmp.ipc,
      route.dst,
      MSG_DONTWAIT,
    )
    if (err !== 0) flushFrames(env, cpu, sk.writeQueue, cork, '__ip6_flush_pending_frames')
    else {
      const packet = ip6MakeSkbFrom(env, sk, sk.writeQueue, cork)
      if (packet !== null) {
        writeHeader(icmp, packet, type, code, info, saddr, daddr)
        net.net.mib[OUT_MSGS] += 1
        net.net.mib[type === 1 ? OUT_DEST_UNREACHS : OUT_TIME_EXCDS] += 1
        ip6SendSkb(env, cpu, net.net, packet)
      }
    }
    icmp.busy = false
    if (icmp.pfrag.page !== 0) pageFragRelease(env.mem, cpu, icmp.pfrag, 'icmp6_send')
  }
  localBhEnable(env.devs, cpu)
}

function writeHeader(
  icmp: Icmpv6,
  skb: SkBuff,
  type: number,
  code: number,
  info: number,
  saddr: Int32Array,
  daddr: Int32Array,
): void {
  const { mem } = icmp.env
  const at = (skb.head + skb.transportHeader) >>> 0
  mem.u8[at] = type
  mem.u8[at + 1] = code
  mem.u16[(at + 2) >>> 1] = 0
  mem.dv.setInt32(at + 4, info)
  const offset = (at - (skb.data >>> 0)) | 0
  const len = skb.len - offset
  const sum = csumAdd(skbChecksum(skb, offset, len, 0), csumIpv6Nofold(saddr, daddr, len, IPPROTO_ICMPV6) | 0)
  mem.u16[(at + 2) >>> 1] = csumFold(sum)
}

/** Models `icmpv6_rcv` (net/ipv6/icmp.c). Takes the skb. */
function icmpv6Rcv(icmp: Icmpv6, cpu: Cpu, skb: SkBuff): number {
  const { env } = icmp
  const { mem } = env
  const { net } = env.nets[(env.devs.devices[skb.dev] as { ns: number }).ns]
  net.mib[IN_MSGS] += 1
  const hdr = (skb.head + skb.networkHeader) >>> 0
  const { scratch6 } = env
  readIpv6Addr(mem, hdr + 8, scratch6.saddr)
  readIpv6Addr(mem, hdr + 24, scratch6.daddr)
  const pseudo = csumIpv6Nofold(scratch6.saddr, scratch6.daddr, skb.len, IPPROTO_ICMPV6)
  if (csumFold(csumAdd(skbChecksum(skb, 0, skb.len, 0), pseudo | 0)) !== 0 || !pskbMayPull(cpu, skb, ICMP6_HLEN)) {
    net.mib[IN_CSUM_ERRORS] += 1
    net.mib[IN_ERRORS] += 1
    kfreeSkb(cpu, skb, 'ICMP_CSUM', 'icmpv6_rcv')
    return 0
  }
  const at = skb.data >>> 0
  const type = mem.u8[at]
  const code = mem.u8[at + 1]
  const info = mem.dv.getInt32(at + 4)
  skbPullUnchecked(skb, ICMP6_HLEN)
  if (type === 1) net.mib[IN_DEST_UNREACHS] += 1
  if (type < ICMPV6_INFOMSG_MASK && pskbMayPull(cpu, skb, IPV6_HLEN + 8))
    env.protos6[mem.u8[(skb.data >>> 0) + 6]]?.errHandler?.(cpu, skb, type, code, info)
  consumeSkb(cpu, skb, 'icmpv6_rcv')
  return 0
}
