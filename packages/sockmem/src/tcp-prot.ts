/**
 * What of TCP is socket accounting: the protocol's shared count, its flag and limits, and the rule for how much a
 * stream may hold unsent. The rest of TCP is in @netmem/inet, which takes its protocols from here so that both
 * IP versions share one count.
 */
import { SLAB_TYPESAFE_BY_RCU } from '@netmem/memory'
import { mibIndex } from './mib.js'
import { PressureFlag, Proto, ProtoCounter, ProtoMemory, type ProtoParams } from './proto.js'
import type { Sock } from './sock.js'
import type { SockEnv } from './sock-env.js'

/** What TCP's and UDP's protocols over both IP versions share. */
export interface SharedProtoState {
  readonly memory: ProtoMemory
  readonly pressure: PressureFlag
  readonly socketsAllocated: ProtoCounter
  readonly orphanCount: ProtoCounter
}

/** @returns fresh state for one machine: the count, the flag `tcp_memory_pressure`, the socket counters. */
export const sharedProtoState = (env: SockEnv): SharedProtoState => ({
  memory: new ProtoMemory(env.cpus.length),
  pressure: new PressureFlag(),
  socketsAllocated: new ProtoCounter(),
  orphanCount: new ProtoCounter(),
})

const METHODS = 'close,connect,disconnect,accept,ioctl,init,destroy,shutdown,setsockopt,getsockopt'

/**
 * Models `tcp_prot` (net/ipv4/tcp_ipv4.c), and `tcpv6_prot` when `ipv6`, as far as accounting goes. The pressure flag is
 * `tcp_memory_pressure`.
 */
export function tcpProtCreate(env: SockEnv, shared: SharedProtoState, ipv6: boolean): Proto {
  const { structs, derived } = env.profile
  const params: ProtoParams = {
    name: ipv6 ? 'TCPv6' : 'TCP',
    objSize: ipv6 ? structs.tcp6_sock.size : structs.tcp_sock.size,
    maxHeader: derived.MAX_TCP_HEADER ?? 192,
    slabFlags: SLAB_TYPESAFE_BY_RCU,
    memory: shared.memory,
    pressure: shared.pressure,
    socketsAllocated: shared.socketsAllocated,
    orphanCount: shared.orphanCount,
    sysctlMem: env.tcpMem,
    rmemMin: (net) => net.tcpRmem[0],
    wmemMin: (net) => net.tcpWmem[0],
    counterEnter: mibIndex('TcpExt.TCPMemoryPressures'),
    counterChrono: mibIndex('TcpExt.TCPMemoryPressuresChrono'),
    methods: `${METHODS},recvmsg,sendmsg,backlog_rcv,hash,unhash,get_port,enter_memory_pressure`,
    isTcp: true,
  }
  const proto = new Proto(params)
  proto.streamMemoryFree = tcpStreamMemoryFree
  return proto
}

/** What `tcp_stream_memory_free` reads of a TCP socket; sequence numbers are signed 32-bit. */
export interface StreamUnsent {
  readonly writeSeq: number
  readonly sndNxt: number
  /** `TCP_NOTSENT_LOWAT` of the socket, 0 for the namespace's sysctl. */
  readonly notsentLowat: number
}

/**
 * Models `tcp_stream_memory_free` (net/ipv4/tcp.c): few enough bytes wait unsent.
 *
 * @param wake 1 when asked for a wake-up; then twice the bytes count, so that a writer sleeps through small gaps.
 */
export function tcpStreamMemoryFree(sk: Sock, wake: number): boolean {
  const tp = sk.priv as StreamUnsent
  const lowat = tp.notsentLowat !== 0 ? tp.notsentLowat >>> 0 : notsentLowatDefault(sk)
  const unsent = (tp.writeSeq - tp.sndNxt) >>> 0
  return (unsent << wake) >>> 0 < lowat
}

function notsentLowatDefault(sk: Sock): number {
  return sk.net.tcpNotsentLowat[0]
}
