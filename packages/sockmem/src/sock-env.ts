/**
 * One machine's sockets: the table of them by id, the protocols, families and namespaces, the numbers that
 * sysctl sets, and the destructors that packets name. Everything above gets it handed in; nothing is global.
 */
import { assert, type Cpu, ERRNO, type EventQueue, type Gfp, type KernelProfile, type Trace } from '@netmem/base'
import {
  type KmemCache,
  kmemCacheCreate,
  type Memory,
  SLAB_ACCOUNT,
  SLAB_HWCACHE_ALIGN,
  SLAB_RECLAIM_ACCOUNT,
} from '@netmem/memory'
import { AllocSkbError, registerSkbDestructor, type SkBuff, type Skbuffs } from '@netmem/skbuff'
import { sockRegisterHolders } from './holders.js'
import { Memcgs } from './memcg.js'
import { NetNs } from './net-ns.js'
import { sockEfree, sockOfree, sockRfree, sockRmemFree, sockWfree } from './owner.js'
import type { Proto } from './proto.js'
import { Rcu } from './rcu.js'
import type { Sock } from './sock.js'
import type { NetProtoFamily } from './sock-ops.js'
import { Sysctls } from './sysctls.js'
import type { UserStruct } from './user.js'

/** What sockets need from the machine. */
export interface SockEnvParams {
  readonly mem: Memory
  readonly skbs: Skbuffs
  readonly cpus: readonly Cpu[]
  readonly clock: EventQueue
  readonly trace: Trace
  readonly profile: KernelProfile
  /** The machine's sysctls; made from the profile when absent. */
  readonly sysctls?: Sysctls
}

// The inode's own constructor keeps its cache from being merged; it has nothing to do here.
function noConstructor(): void {}

/** Called when a socket's wait queue would be woken, with `EPOLL*` bits. */
export type WakeSlot = (cpu: Cpu, sk: Sock, events: number) => void

export class SockEnv {
  readonly mem: Memory
  readonly skbs: Skbuffs
  readonly cpus: readonly Cpu[]
  readonly clock: EventQueue
  readonly trace: Trace
  readonly profile: KernelProfile
  readonly sysctls: Sysctls
  readonly initNet: NetNs
  readonly nets: NetNs[] = []
  readonly rcu: Rcu
  readonly memcgs: Memcgs
  readonly protos: Proto[] = []
  readonly families: (NetProtoFamily | null)[] = []
  /** Sockets by id; id 0 is no socket, freed ids are null until they are used again. */
  readonly socks: (Sock | null)[] = [null]
  readonly freeIds: number[] = []
  /** See `currentUser`. */
  readonly users: UserStruct[] = []
  readonly socketCache: KmemCache
  /** Who wants to know of wake-ups: the kernel model's poll and blocking calls. */
  wake: WakeSlot | null = null

  // Numbers that sysctl sets, shared by all namespaces.
  readonly rmemMax: Float64Array
  readonly wmemMax: Float64Array
  readonly rmemDefault: Float64Array
  readonly wmemDefault: Float64Array
  readonly memPcpuRsv: Float64Array
  readonly tcpMem: Float64Array
  readonly udpMem: Float64Array
  readonly highOrderAllocDisable: Float64Array
  readonly busyRead: Float64Array
  readonly busyPoll: Float64Array
  /** Models `net_hotdata`'s and `SOCK_MIN_*`: fixed by structure sizes. Bytes. */
  readonly minRcvbuf: number
  readonly minSndbuf: number
  /** Nanoseconds of one jiffy. */
  readonly jiffyNs: number
  readonly pageSize: number
  readonly pageShift: number

  // Destructor numbers for `SkBuff.destructor`.
  readonly sockRfree: number
  readonly sockWfree: number
  readonly sockOfree: number
  readonly sockEfree: number
  readonly sockRmemFree: number
  /** Models `tcp_wfree`; TCP registers its own and puts the number here. */
  tcpWfree = 0

  /** Destructors of layers above that give `wmemAlloc` back; audits know their packets by them. */
  readonly wmemDestructors: number[] = []

  /** What `allocSkbWithFrags` reports. */
  readonly allocError = new AllocSkbError()
  /** The errno (negative) of the last function here that returns an object or null, such as `skbRecvDatagram`. */
  lastError = 0
  private nextCookie = 0

  constructor(params: SockEnvParams) {
    this.mem = params.mem
    this.skbs = params.skbs
    this.cpus = params.cpus
    this.clock = params.clock
    this.trace = params.trace
    this.profile = params.profile
    this.sysctls = params.sysctls ?? new Sysctls(params.profile)
    const sysctls = this.sysctls
    this.rmemMax = sysctls.numbers('net.core.rmem_max', [212992])
    this.wmemMax = sysctls.numbers('net.core.wmem_max', [212992])
    this.rmemDefault = sysctls.numbers('net.core.rmem_default', [212992])
    this.wmemDefault = sysctls.numbers('net.core.wmem_default', [212992])
    this.memPcpuRsv = sysctls.numbers('net.core.mem_pcpu_rsv', [256])
    this.tcpMem = sysctls.numbers('net.ipv4.tcp_mem', [0, 0, 0])
    this.udpMem = sysctls.numbers('net.ipv4.udp_mem', [0, 0, 0])
    this.highOrderAllocDisable = sysctls.numbers('net.core.high_order_alloc_disable', [0])
    this.busyRead = sysctls.numbers('net.core.busy_read', [0])
    this.busyPoll = sysctls.numbers('net.core.busy_poll', [0])
    this.minRcvbuf = params.profile.derived.SOCK_MIN_RCVBUF
    this.minSndbuf = params.profile.derived.SOCK_MIN_SNDBUF
    this.jiffyNs = 1e9 / params.profile.HZ
    this.pageSize = params.profile.page_size
    this.pageShift = Math.log2(params.profile.page_size)
    this.rcu = new Rcu(params.clock)
    this.memcgs = new Memcgs(params.cpus.length, params.profile)
    this.initNet = this.netCreate()
    const slab = params.profile.slab_sysfs.sock_inode_cache
    this.socketCache = kmemCacheCreate(
      this.mem,
      'sock_inode_cache',
      slab === undefined ? 768 : Number(slab.object_size),
      { flags: SLAB_HWCACHE_ALIGN | SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, ctor: noConstructor },
    )
    const destructor = (free: (env: SockEnv, cpu: Cpu, skb: SkBuff) => void): number =>
      registerSkbDestructor(this.skbs, (cpu, skb) => free(this, cpu, skb))
    this.sockRfree = destructor(sockRfree)
    this.sockWfree = destructor(sockWfree)
    this.sockOfree = destructor(sockOfree)
    this.sockEfree = destructor(sockEfree)
    this.sockRmemFree = destructor(sockRmemFree)
  }

  /** Models `jiffies`: ticks since boot, from the same odd start as the kernel's (five minutes before it wraps). */
  get jiffies(): number {
    return (Math.floor(this.clock.nowNs / this.jiffyNs) - 300 * this.profile.HZ) >>> 0
  }

  netCreate(): NetNs {
    const net = new NetNs(this.nets.length, this.profile, this.sysctls)
    this.nets.push(net)
    return net
  }

  /** See `protoRegister`. */
  registerProto(proto: Proto): number {
    if (this.protos.length === this.initNet.protoInuse.length) return -ERRNO.ENOBUFS
    assert(proto.inuseIndex === -1, 'protocol registered twice')
    if (proto.slab)
      proto.cache = kmemCacheCreate(this.mem, proto.name, proto.objSize, {
        flags: SLAB_HWCACHE_ALIGN | SLAB_ACCOUNT | proto.slabFlags,
        useroffset: proto.useroffset,
        usersize: proto.usersize,
      })
    proto.inuseIndex = this.protos.length
    this.protos.push(proto)
    return 0
  }

  /** Models `sock_register`: a family's way of making sockets. */
  registerFamily(family: NetProtoFamily): number {
    if (this.families[family.family] != null) return -ERRNO.EEXIST
    this.families[family.family] = family
    return 0
  }

  /** A number that no other socket of this machine gets (`sock_gen_cookie`). */
  cookie(): number {
    this.nextCookie += 1
    return this.nextCookie
  }

  /** @returns the socket a packet belongs to, which must exist. */
  sockOf(skb: SkBuff): Sock {
    const sk = this.socks[skb.sk]
    if (__ASSERT__) assert(sk != null, 'the packet names a socket that is gone')
    return sk as Sock
  }

  /** The mask for an allocation in this context: models `gfp_any`. */
  gfpAny(cpu: Cpu): Gfp {
    return cpu.servingSoftirq !== 0 || cpu.bhDisabled !== 0 ? this.mem.gfp.GFP_ATOMIC : this.mem.gfp.GFP_KERNEL
  }
}

export function sockEnvCreate(params: SockEnvParams): SockEnv {
  const env = new SockEnv(params)
  sockRegisterHolders(env)
  return env
}
