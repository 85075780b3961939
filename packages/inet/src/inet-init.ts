/**
 * Starting the Internet protocols of one machine (`inet_init`): the tables, the protocols, the socket families, and
 * the handlers by which devices deliver to them.
 */
import type { Cpu } from '@netmem/base'
import { kmemCacheCreate } from '@netmem/memory'
import {
  AF_INET,
  AF_INET6,
  IPPROTO_IP,
  IPPROTO_UDP,
  type NetNs,
  SOCK_DGRAM,
  SOCK_RAW,
  type Sock,
} from '@netmem/sockmem'
import { devAddPack, ETH_P_IP, ETH_P_IPV6, localBhEnable } from '@netmem/virtual-nic'
import { NO_TLS_CRYPTO, tlsInit } from '@netmem/zerocopy'
import { inetCreate } from './af-inet.js'
import { linkProtocolsInit } from './arp.js'
import { fragRegisterHolders } from './frag-holders.js'
import { icmpInit } from './icmp.js'
import { InetEnv, type InetParams, inet6AddProtocol, inetAddProtocol, inetRegisterProtosw } from './inet-env.js'
import { Fqdir, InetFrags } from './inet-fragment.js'
import { InetNet } from './inet-net.js'
import { ipExpire } from './ip/ip-fragment.js'
import { ipRcv } from './ip/ip-input.js'
import { icmpv6Init } from './ip6/icmpv6.js'
import { ipv6Rcv } from './ip6/ip6-input.js'
import { ip6FragExpire } from './ip6/ip6-reassembly.js'
import { rawInitSock, rawSockOps } from './raw/raw-ops.js'
import { tcpInit } from './tcp/tcp-init.js'
import { tlsTransport } from './tcp/tcp-tls.js'
import { tcpRegisterUlp } from './tcp/tcp-ulp.js'
import { Udp } from './udp/udp-env.js'
import { udpErr } from './udp/udp-error.js'
import { udpGroLookup } from './udp/udp-gro.js'
import { udpInitSock, udpSockOps } from './udp/udp-ops.js'
import { udpRcv } from './udp/udp-receive.js'
import { udpv6Err, udpv6Rcv } from './udp/udp6-receive.js'
import { unixInit } from './unix/unix-ops.js'

/** Models `inet_init` and `inet6_init`. */
export function inetInit(params: InetParams): InetEnv {
  const env = new InetEnv(params)
  const { socks, mem, profile } = env
  const size = (name: string, fallback: number): number => Number(profile.slab_sysfs[name]?.object_size ?? fallback)
  const qsize4 = size('ip4-frags', 200)
  const qsize6 = size('ip6-frags', 184)
  env.frags = new InetFrags(env, kmemCacheCreate(mem, 'ip4-frags', qsize4, {}), qsize4)
  env.frags6 = new InetFrags(env, kmemCacheCreate(mem, 'ip6-frags', qsize6, {}), qsize6)
  const softirq = (run: (cpu: Cpu) => void): void => runInSoftirq(env, run)
  env.frags.expire = (queue) => softirq((cpu) => ipExpire(env, cpu, queue))
  env.frags6.expire = (queue) => softirq((cpu) => ip6FragExpire(env, cpu, queue))
  env.makeNet = (net) => makeNet(env, net)

  env.owned.raw = { socks: [] }
  const rawProto = icmpInit(env)
  icmpv6Init(env, rawProto)
  const udp = new Udp(env)
  env.owned.udp = udp
  inetAddProtocol(env, {
    protocol: IPPROTO_UDP,
    handler: (cpu, skb) => udpRcv(udp, cpu, skb),
    errHandler: (cpu, skb, type, code, info) => udpErr(udp, cpu, skb, type, code, info),
  })
  inet6AddProtocol(env, {
    protocol: IPPROTO_UDP,
    handler: (cpu, skb) => udpv6Rcv(udp, cpu, skb),
    errHandler: (cpu, skb, type, code, info) => udpv6Err(udp, cpu, skb, type, code, info),
  })
  const initUdp = (cpu: Cpu, sk: Parameters<typeof udpInitSock>[2]): number => udpInitSock(env, cpu, sk)
  const tcp = tcpInit(env, params.seed ?? 1)
  const tls = tlsInit({ socks, crypto: params.crypto ?? NO_TLS_CRYPTO, transport: tlsTransport(tcp) })
  env.owned.tls = tls.env
  tcpRegisterUlp(tcp, tls.ulp)
  inetRegisterProtosw(env, {
    family: AF_INET,
    type: SOCK_DGRAM,
    protocol: IPPROTO_UDP,
    proto: udp.proto,
    ops: udpSockOps(env, false),
    init: initUdp,
  })
  inetRegisterProtosw(env, {
    family: AF_INET6,
    type: SOCK_DGRAM,
    protocol: IPPROTO_UDP,
    proto: udp.proto6,
    ops: udpSockOps(env, true),
    init: initUdp,
  })
  inetRegisterProtosw(env, {
    family: AF_INET,
    type: SOCK_RAW,
    protocol: IPPROTO_IP,
    proto: rawProto,
    ops: rawSockOps(env),
    init: (cpu, sk) => rawInitSock(env, cpu, sk),
    raw: true,
  })
  for (const family of [AF_INET, AF_INET6])
    socks.registerFamily({
      family,
      create: (cpu, task, net, type, protocol, kern) => inetCreate(env, cpu, task, net, family, type, protocol, kern),
    })
  const { slots } = env.devs
  slots.skWmemAdd = (id, bytes) => {
    ;(socks.socks[id] as Sock).wmemAlloc += bytes
  }
  slots.sockWfree = socks.sockWfree
  slots.udpGroLookup = (skb, network, transport) => udpGroLookup(udp, skb, network, transport)
  unixInit(socks)
  fragRegisterHolders(env)
  devAddPack(env.devs, { type: ETH_P_IP, name: 'ip_rcv', func: (cpu, skb, dev) => ipRcv(env, cpu, skb, dev) })
  linkProtocolsInit(env)
  devAddPack(env.devs, { type: ETH_P_IPV6, name: 'ipv6_rcv', func: (cpu, skb, dev) => ipv6Rcv(env, cpu, skb, dev) })
  return env
}

function makeNet(env: InetEnv, net: NetNs): InetNet {
  const { sysctls } = net
  const frags = new Fqdir(
    sysctls.numbers('net.ipv4.ipfrag_high_thresh', [4194304]),
    sysctls.numbers('net.ipv4.ipfrag_low_thresh', [3145728]),
    sysctls.numbers('net.ipv4.ipfrag_time', [30]),
    sysctls.numbers('net.ipv4.ipfrag_max_dist', [64]),
    net.id,
    env.frags,
  )
  const frags6 = new Fqdir(
    sysctls.numbers('net.ipv6.ip6frag_high_thresh', [4194304]),
    sysctls.numbers('net.ipv6.ip6frag_low_thresh', [3145728]),
    sysctls.numbers('net.ipv6.ip6frag_time', [60]),
    new Float64Array(1),
    net.id,
    env.frags6,
  )
  const made = new InetNet(net, frags, frags6)
  env.nets[net.id] = made
  return made
}

/** Timers run in softirq on the first CPU; what they send is processed before they return. */
function runInSoftirq(env: InetEnv, run: (cpu: Cpu) => void): void {
  const cpu = env.socks.cpus[0]
  cpu.bhDisabled += 1
  cpu.servingSoftirq += 1
  run(cpu)
  cpu.servingSoftirq -= 1
  // Bottom halves come on again: what the timer raised runs now.
  localBhEnable(env.devs, cpu)
}
