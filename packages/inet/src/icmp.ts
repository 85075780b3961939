/**
 * ICMP: errors that quote the offending packet, echo replies, and telling sockets about errors that come in.
 * Each namespace has a socket of the kernel's own for what it sends, so that this memory is accounted too.
 */
import { type Addr, type Cpu, ERRNO } from '@netmem/base'
import { PageFrag, pageFragRelease } from '@netmem/page-frag'
import {
  CHECKSUM_NONE,
  consumeSkb,
  csumAdd,
  csumFold,
  csumPartial,
  kfreeSkb,
  PACKET_HOST,
  pskbMayPull,
  type SkBuff,
  type SkbDropReason,
  skbChecksum,
  skbCopyBits,
  skbCsumUnnecessary,
  skbPullUnchecked,
} from '@netmem/skbuff'
import {
  AF_INET,
  IPPROTO_ICMP,
  MSG_DONTWAIT,
  mibIndex,
  type NetNs,
  Proto,
  protoRegister,
  SOCK_RAW,
  type Sock,
  type SockOps,
  skAlloc,
  sockDefDestruct,
  sockInitData,
} from '@netmem/sockmem'
import { IFF_LOOPBACK, localBhDisable, localBhEnable } from '@netmem/virtual-nic'
import type { Dst } from './dst.js'
import { ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_TIME_EXCEEDED, type IcmpSlots } from './icmp-slots.js'
import { type InetEnv, inetAddProtocol } from './inet-env.js'
import type { InetNet } from './inet-net.js'
import { InetSock, inetOf } from './inet-sock.js'
import { IpcmCookie } from './ip/cork.js'
import type { AppendSource } from './ip/ip-append.js'
import { flushFrames } from './ip/ip-append.js'
import { IP_OFFSET, ipv4IsMulticast } from './ip/ip-header.js'
import { ipAppendData, ipCorkRelease, ipMakeSkbFrom } from './ip/ip-make.js'
import { ipSendSkb } from './ip/ip-output.js'
import { fibLookup } from './route.js'

const ICMP_HLEN = 8
const ICMP_ECHOREPLY = 0
const ICMP_REDIRECT = 5
const ICMP_ECHO = 8
const ICMP_PARAMETERPROB = 12
const NR_ICMP_TYPES = 18
/** Errors quote so much of the packet that the whole message keeps within this. */
const ICMP_MESSAGE_MAX = 576

const IN_MSGS = mibIndex('Icmp.InMsgs')
const IN_ERRORS = mibIndex('Icmp.InErrors')
const IN_CSUM_ERRORS = mibIndex('Icmp.InCsumErrors')
const IN_DEST_UNREACHS = mibIndex('Icmp.InDestUnreachs')
const IN_TIME_EXCDS = mibIndex('Icmp.InTimeExcds')
const IN_PARM_PROBS = mibIndex('Icmp.InParmProbs')
const IN_ECHOS = mibIndex('Icmp.InEchos')
const IN_ECHO_REPS = mibIndex('Icmp.InEchoReps')
const OUT_ERRORS = mibIndex('Icmp.OutErrors')
const OUT_DEST_UNREACHS = mibIndex('Icmp.OutDestUnreachs')
const OUT_TIME_EXCDS = mibIndex('Icmp.OutTimeExcds')
const OUT_PARM_PROBS = mibIndex('Icmp.OutParmProbs')
const OUT_ECHO_REPS = mibIndex('Icmp.OutEchoReps')
const OUT_LIMIT_GLOBAL = mibIndex('Icmp.OutRateLimitGlobal')
const OUT_LIMIT_HOST = mibIndex('Icmp.OutRateLimitHost')

/** Models `icmp_err_convert`: errno and whether it ends connections, by the code of a destination-unreachable. */
export const ICMP_ERR_CONVERT: readonly (readonly [number, boolean])[] = [
  [ERRNO.ENETUNREACH, false],
  [ERRNO.EHOSTUNREACH, false],
  [ERRNO.ENOPROTOOPT, true],
  [ERRNO.ECONNREFUSED, true],
  [ERRNO.EMSGSIZE, false],
  [95, false],
  [ERRNO.ENETUNREACH, true],
  [112, true],
  [64, true],
  [ERRNO.ENETUNREACH, true],
  [ERRNO.EHOSTUNREACH, true],
  [ERRNO.ENETUNREACH, false],
  [ERRNO.EHOSTUNREACH, false],
  [ERRNO.EHOSTUNREACH, true],
  [ERRNO.EHOSTUNREACH, true],
  [ERRNO.EHOSTUNREACH, true],
]

/** Models `struct icmp_bxm`: what an outgoing message is made of. One per machine: sends do not nest. */
class IcmpMessage implements AppendSource {
  skb!: SkBuff
  /** Where in the packet the quoted bytes start. */
  offset = 0

  /** Models `icmp_glue_bits`. */
  getfrag(_env: InetEnv, _cpu: Cpu, to: Addr, offset: number, bytes: number, _odd: number, skb: SkBuff): number {
    if (skbCopyBits(this.skb, this.offset + offset, to, bytes) !== 0) return -ERRNO.EFAULT
    skb.csum = csumAdd(skb.csum, csumPartial(skb.env, to, bytes, 0))
    return 0
  }

  zeroCopy(): null {
    return null
  }
}

/** The methods that /proc/net/protocols shows of RAW. */
const RAW_METHODS =
  'close,connect,disconnect,ioctl,init,destroy,setsockopt,getsockopt,sendmsg,recvmsg,bind,backlog_rcv,hash,unhash'

/** ICMP of one machine. */
class Icmp implements IcmpSlots {
  readonly message = new IcmpMessage()
  readonly ipc = new IpcmCookie()
  readonly pfrag = new PageFrag()
  readonly proto: Proto
  /** A message is under way on this CPU: no error about an error. */
  busy = false
  icmp6Send: IcmpSlots['icmp6Send'] = () => {}

  constructor(readonly env: InetEnv) {
    this.proto = new Proto({ name: 'RAW', objSize: rawObjSize(env), usersize: 4, methods: RAW_METHODS })
    protoRegister(env.socks, this.proto)
  }

  readonly icmpSend: IcmpSlots['icmpSend'] = (cpu, skb, type, code, info) => icmpSend(this, cpu, skb, type, code, info)
}

const rawObjSize = (env: InetEnv): number => Number(env.profile.slab_sysfs.RAW?.object_size ?? 1152)

/** Models `icmp_init`: the protocol handler and the slots of IP. @returns the protocol of raw sockets, which this one's is. */
export function icmpInit(env: InetEnv): Proto {
  const icmp = new Icmp(env)
  env.owned.icmp = icmp
  inetAddProtocol(env, { protocol: IPPROTO_ICMP, handler: (cpu, skb) => icmpRcv(icmp, cpu, skb) })
  return icmp.proto
}

/** Models `icmp_sk_init`: a socket with atomic allocations and room for two of the largest messages. */
function icmpSk(icmp: Icmp, cpu: Cpu, net: InetNet): Sock | null {
  if (net.icmpSk !== null) return net.icmpSk
  const { env } = icmp
  const gfp = env.mem.gfp.GFP_KERNEL
  env.socks.rcu.running += 1
  const sk = skAlloc(env.socks, cpu, null, net.net, AF_INET, gfp, icmp.proto, kernelOps, true)
  env.socks.rcu.running -= 1
  if (sk === null) return null
  sockInitData(sk)
  sk.type = SOCK_RAW
  sk.protocol = IPPROTO_ICMP
  sk.allocation = env.mem.gfp.GFP_ATOMIC
  sk.useTaskFrag = 0
  sk.sndbuf = 2 * (64 * 1024 + env.skbs.sizes.headBytes + env.skbs.sizes.sharedInfoBytes)
  sk.destruct = sockDefDestruct
  const inet = new InetSock()
  inet.pmtudisc = 0
  sk.priv = { inet }
  net.icmpSk = sk
  return sk
}

/** The kernel's own sockets have no user. */
const kernelOps = { name: 'icmp' } as SockOps

// Sending.

/** Models `icmp_send` (net/ipv4/icmp.c). */
function icmpSend(icmp: Icmp, cpu: Cpu, skb: SkBuff, type: number, code: number, info: number): void {
  const { env } = icmp
  const { mem } = env
  const iph = (skb.head + skb.networkHeader) >>> 0
  const dev = env.devs.devices[skb.dev]
  if (dev == null || icmp.busy) return
  const net = env.netOfDev(dev)
  const saddr = mem.dv.getInt32(iph + 12)
  const daddr = mem.dv.getInt32(iph + 16)
  if (skb.pktType !== PACKET_HOST || ipv4IsMulticast(daddr) || daddr === -1) return
  if ((mem.dv.getUint16(iph + 6) & IP_OFFSET) !== 0) return
  if (isIcmpError(type) && mem.u8[iph + 9] === IPPROTO_ICMP && quotesError(icmp, skb, iph)) return
  const route = fibLookup(net, saddr, 0)
  if (route === null) return
  localBhDisable(cpu)
  const allowed =
    (dev.flags & IFF_LOOPBACK) !== 0 || (globalAllow(icmp, net, type) && xrlimAllow(icmp, net, route.dst, type))
  if (allowed) sendError(icmp, cpu, net, skb, iph, type, code, info, daddr, saddr, route.dst)
  localBhEnable(env.devs, cpu)
}

const isIcmpError = (type: number): boolean =>
  type === ICMP_DEST_UNREACH || type === ICMP_TIME_EXCEEDED || type === ICMP_PARAMETERPROB || type === ICMP_REDIRECT

/** An error about an error would go on for ever. */
function quotesError(icmp: Icmp, skb: SkBuff, iph: number): boolean {
  const { mem } = icmp.env
  const at = iph + (mem.u8[iph] & 15) * 4
  if (at >= skb.tail >>> 0) return true
  const inner = mem.u8[at]
  return inner > NR_ICMP_TYPES || isIcmpError(inner)
}

function sendError(
  icmp: Icmp,
  cpu: Cpu,
  net: InetNet,
  skb: SkBuff,
  iph: number,
  type: number,
  code: number,
  info: number,
  saddr: number,
  daddr: number,
  dst: Dst,
): void {
  const sk = icmpSk(icmp, cpu, net)
  if (sk === null) return
  const offset = (iph - (skb.data >>> 0)) | 0
  const mtu = dst.pmtu !== 0 ? dst.pmtu : dst.dev.mtu
  const room = Math.min(mtu, ICMP_MESSAGE_MAX) - 20 - ICMP_HLEN
  if (room <= 20) return
  const quoted = Math.min(skb.len - offset, room)
  net.net.mib[errorCounter(type)] += 1
  icmpPush(icmp, cpu, net, sk, skb, offset, quoted, ICMP_HLEN, type, code, info, saddr, daddr, dst, true)
}

const errorCounter = (type: number): number =>
  type === ICMP_DEST_UNREACH ? OUT_DEST_UNREACHS : type === ICMP_TIME_EXCEEDED ? OUT_TIME_EXCDS : OUT_PARM_PROBS

/** Models `icmp_push_reply`: the message through the namespace's socket. @param info second word of the header. */
function icmpPush(
  icmp: Icmp,
  cpu: Cpu,
  net: InetNet,
  sk: Sock,
  skb: SkBuff,
  offset: number,
  dataBytes: number,
  headBytes: number,
  type: number,
  code: number,
  info: number,
  saddr: number,
  daddr: number,
  dst: Dst,
  withOptions: boolean,
): void {
  const { env, message } = icmp
  icmp.ipc.opt = withOptions
  const { cork } = inetOf(sk)
  message.skb = skb
  message.offset = offset
  cork.saddr = saddr
  cork.daddr = daddr
  icmp.busy = true
  const len = dataBytes + headBytes
  const err = ipAppendData(env, cpu, sk, cork, icmp.pfrag, message, len, headBytes, icmp.ipc, dst, MSG_DONTWAIT)
  if (err !== 0) {
    net.net.mib[OUT_ERRORS] += 1
    flushFrames(env, cpu, sk.writeQueue, cork, '__ip_flush_pending_frames')
    ipCorkRelease(env, cpu, cork, 'ip_cork_release')
  } else {
    const packet = ipMakeSkbFrom(env, cpu, sk, sk.writeQueue, cork)
    if (packet !== null) {
      writeHeader(icmp, packet, type, code, info)
      ipSendSkb(env, cpu, net.net, packet)
    }
  }
  icmp.busy = false
  // Nothing is left in the fragment between messages: the kernel keeps it per socket, and so it is seldom used.
  if (icmp.pfrag.page !== 0) pageFragRelease(env.mem, cpu, icmp.pfrag, 'icmp_push_reply')
}

function writeHeader(icmp: Icmp, skb: SkBuff, type: number, code: number, info: number): void {
  const { mem } = icmp.env
  const at = (skb.head + skb.transportHeader) >>> 0
  mem.u8[at] = type
  mem.u8[at + 1] = code
  mem.dv.setUint16(at + 2, 0)
  mem.dv.setInt32(at + 4, info)
  const offset = (at - (skb.data >>> 0)) | 0
  mem.u16[(at + 2) >>> 1] = csumFold(skbChecksum(skb, offset, skb.len - offset, 0))
  skb.ipSummed = CHECKSUM_NONE
}

/** Models `icmp_global_allow`: at most so many errors a second from this namespace, in bursts of 50. */
function globalAllow(icmp: Icmp, net: InetNet, type: number): boolean {
  if (((1 << type) & net.icmpRatemask[0]) === 0) return true
  const now = icmp.env.socks.jiffies
  const hz = icmp.env.profile.HZ
  const passed = Math.min(now - net.icmpStamp, hz)
  if (passed >= hz / 50) {
    const fresh = Math.floor((1000 * passed) / hz)
    if (fresh > 0) net.icmpStamp = now
    net.icmpTokens = Math.min(net.icmpTokens + fresh, 50)
  }
  if (net.icmpTokens === 0) {
    net.net.mib[OUT_LIMIT_GLOBAL] += 1
    return false
  }
  net.icmpTokens -= 1
  return true
}

/** Models `icmpv4_xrlim_allow` and `inet_peer_xrlim_allow`, per route: six errors at once, then one per interval. */
function xrlimAllow(icmp: Icmp, net: InetNet, dst: Dst, type: number): boolean {
  if ((dst.dev.flags & IFF_LOOPBACK) !== 0 || ((1 << type) & net.icmpRatemask[0]) === 0) return true
  const interval = (net.icmpRatelimit[0] * icmp.env.profile.HZ) / 1000
  if (interval === 0) return true
  const now = icmp.env.socks.jiffies
  dst.errorTokens = Math.min(dst.errorTokens + now - dst.errorStamp, 6 * interval)
  dst.errorStamp = now
  if (dst.errorTokens < interval) {
    net.net.mib[OUT_LIMIT_HOST] += 1
    return false
  }
  dst.errorTokens -= interval
  return true
}

// Receiving.

/** Models `icmp_rcv` (net/ipv4/icmp.c). Takes the skb. */
function icmpRcv(icmp: Icmp, cpu: Cpu, skb: SkBuff): number {
  const { env } = icmp
  const net = env.nets[(env.devs.devices[skb.dev] as { ns: number }).ns]
  const { mib } = net.net
  mib[IN_MSGS] += 1
  if (!skbCsumUnnecessary(skb) && csumFold(skbChecksum(skb, 0, skb.len, 0)) !== 0) {
    mib[IN_CSUM_ERRORS] += 1
    return icmpDrop(cpu, net.net, skb, 'ICMP_CSUM')
  }
  if (!pskbMayPull(cpu, skb, ICMP_HLEN)) return icmpDrop(cpu, net.net, skb, 'NOT_SPECIFIED')
  const at = skb.data >>> 0
  const type = env.mem.u8[at]
  const code = env.mem.u8[at + 1]
  const info = env.mem.dv.getInt32(at + 4)
  skbPullUnchecked(skb, ICMP_HLEN)
  if (type > NR_ICMP_TYPES) return icmpDrop(cpu, net.net, skb, 'UNHANDLED_PROTO')
  if (type === ICMP_ECHO) {
    mib[IN_ECHOS] += 1
    icmpEcho(icmp, cpu, net, skb, info)
  } else if (type === ICMP_ECHOREPLY) mib[IN_ECHO_REPS] += 1
  else if (type === ICMP_DEST_UNREACH || type === ICMP_TIME_EXCEEDED || type === ICMP_PARAMETERPROB) {
    mib[type === ICMP_DEST_UNREACH ? IN_DEST_UNREACHS : type === ICMP_TIME_EXCEEDED ? IN_TIME_EXCDS : IN_PARM_PROBS] +=
      1
    if (!icmpUnreach(icmp, cpu, net, skb, type, code, info)) return icmpDrop(cpu, net.net, skb, 'NOT_SPECIFIED')
  }
  consumeSkb(cpu, skb, 'icmp_rcv')
  return 0
}

function icmpDrop(cpu: Cpu, net: NetNs, skb: SkBuff, reason: SkbDropReason): number {
  net.mib[IN_ERRORS] += 1
  kfreeSkb(cpu, skb, reason, 'icmp_rcv')
  return 0
}

/** Models `icmp_unreach` and `icmp_socket_deliver`: to the protocol whose packet is quoted. */
function icmpUnreach(
  icmp: Icmp,
  cpu: Cpu,
  net: InetNet,
  skb: SkBuff,
  type: number,
  code: number,
  info: number,
): boolean {
  const { env } = icmp
  if (!pskbMayPull(cpu, skb, 20)) return false
  const iph = skb.data >>> 0
  if ((env.mem.u8[iph] & 15) < 5) return false
  let mtu = 0
  if (type === ICMP_DEST_UNREACH && code === ICMP_FRAG_NEEDED) {
    mtu = info & 0xffff
    const route = fibLookup(net, env.mem.dv.getInt32(iph + 16), 0)
    if (route !== null && mtu >= 68) route.dst.pmtu = mtu
  }
  if (!pskbMayPull(cpu, skb, (env.mem.u8[iph] & 15) * 4 + 8)) return false
  env.protos[env.mem.u8[iph + 9]]?.errHandler?.(cpu, skb, type, code, mtu)
  return true
}

/** Models `icmp_echo` and `icmp_reply`. @param info identification and sequence, which come back. */
function icmpEcho(icmp: Icmp, cpu: Cpu, net: InetNet, skb: SkBuff, info: number): void {
  const { env } = icmp
  const iph = (skb.head + skb.networkHeader) >>> 0
  const saddr = env.mem.dv.getInt32(iph + 16)
  const daddr = env.mem.dv.getInt32(iph + 12)
  const route = fibLookup(net, daddr, 0)
  const sk = route === null ? null : icmpSk(icmp, cpu, net)
  if (route === null || sk === null || icmp.busy) return
  net.net.mib[OUT_ECHO_REPS] += 1
  icmpPush(icmp, cpu, net, sk, skb, 0, skb.len, ICMP_HLEN, ICMP_ECHOREPLY, 0, info, saddr, daddr, route.dst, false)
}
