/**
 * AF_XDP on one machine: the protocol, who is bound, what waits to be freed. Handed to every function here; two
 * machines have two of them.
 */
import { assert, type Cpu, type EventQueue } from '@netmem/base'
import { type KmemCache, kmemCacheCreate, type Memory, SLAB_HWCACHE_ALIGN } from '@netmem/memory'
import { registerSkbDestructor, type SkBuff, type Skbuffs } from '@netmem/skbuff'
import { Proto, protoRegister, type SockEnv, type SockOps } from '@netmem/sockmem'
import type { NetDevs } from '@netmem/virtual-nic'
import type { XskBuffPool } from './xsk-buff-pool.js'
import type { XdpSock } from './xsk-sock.js'
import { XskAddrsPool } from './xsk-tx-addrs.js'

/** Bytes of `struct xdp_sock`; the profiles do not list it, and both kernels' sockets come from the same kmalloc size. */
const XDP_SOCK_BYTES = 1088

export class XskEnv {
  readonly mem: Memory
  readonly skbs: Skbuffs
  readonly clock: EventQueue
  readonly features: SockEnv['profile']['features']
  /** Aligned bytes of the shared info: what a chunk keeps free at its end. */
  readonly sharedInfoBytes: number
  /** Packets may lie in several buffers: receive and send, and a broken descriptor ends a send. */
  readonly multiBuffer: boolean
  readonly proto: Proto
  /** Models `xsk_tx_generic_cache`: the addresses of packets that were sent from several descriptors. */
  readonly addrsCache: KmemCache
  readonly addrs = new XskAddrsPool()
  /** The number of `xsk_destruct_skb`. */
  readonly destructSkb: number
  /** Sockets, until they are destroyed. */
  readonly all: XdpSock[] = []
  /** Buffer pools, until they are destroyed. */
  readonly pools: XskBuffPool[] = []
  /** Areas alive, and the number of the next. */
  umems = 0
  nextUmemId = 0
  private readonly works: ((cpu: Cpu) => void)[] = []
  private readonly workHandler: number

  constructor(
    readonly socks: SockEnv,
    readonly devs: NetDevs,
    readonly ops: SockOps,
    destruct: (env: XskEnv, cpu: Cpu, skb: SkBuff) => void,
  ) {
    this.mem = socks.mem
    this.skbs = socks.skbs
    this.clock = socks.clock
    this.features = socks.profile.features
    this.multiBuffer = this.features.xdpSocketMultiBuffer
    this.sharedInfoBytes = this.skbs.sizes.sharedInfoBytes
    this.proto = new Proto({ name: 'XDP', objSize: XDP_SOCK_BYTES, slab: false })
    const rc = protoRegister(socks, this.proto)
    assert(rc === 0, 'no room for another protocol')
    const addrsBytes = 8 + 8 * (this.skbs.sizes.maxFrags + 1)
    this.addrsCache = kmemCacheCreate(this.mem, 'xsk_generic_xmit_cache', addrsBytes, { flags: SLAB_HWCACHE_ALIGN })
    this.destructSkb = registerSkbDestructor(this.skbs, (cpu, skb) => destruct(this, cpu, skb))
    socks.wmemDestructors.push(this.destructSkb)
    this.workHandler = this.clock.register(() => {
      for (const work of this.works.splice(0)) work(socks.cpus[0]!)
    })
  }

  /** Models `schedule_work`: soon, in process context on the first CPU. */
  scheduleWork(work: (cpu: Cpu) => void): void {
    this.works.push(work)
    if (this.works.length === 1) this.clock.schedule(this.clock.nowNs, this.workHandler)
  }
}
