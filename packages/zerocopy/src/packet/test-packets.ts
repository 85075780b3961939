/** A machine with packet sockets and one device, and short forms of the calls that tests make. */
import type { Cpu } from '@netmem/base'
import { failNth, iovIterInit, trackAllocations, type UserBuffer, userAlloc, userFree } from '@netmem/memory'
import { assertNoLeaks, auditMemory } from '@netmem/memory/testing'
import { allocSkb, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { assertSkbsQuiescent, auditSkbs } from '@netmem/skbuff/testing'
import {
  AF_PACKET,
  doSockSetsockopt,
  MSG_DONTWAIT,
  Msg,
  OptVal,
  SO,
  SOCK_RAW,
  SOL_SOCKET,
  type Sock,
  SockAddr,
  type SockEnv,
  sockCreate,
  sockEnvCreate,
  Task,
} from '@netmem/sockmem'
import { auditSocks } from '@netmem/sockmem/testing'
import {
  devOpen,
  ETH_P_ALL,
  ethHwAddrSet,
  ethTypeTrans,
  localBhDisable,
  localBhEnable,
  NETIF_F_SG,
  type NetDevice,
  netdevRegister,
  netdevSetFeature,
  netifReceiveSkb,
} from '@netmem/virtual-nic'
import { assertNetDevsQuiescent, type TestNet, testNet } from '@netmem/virtual-nic/testing'
import { assertPacketsQuiescent, auditPackets } from './audit.js'
import { PACKET_RX_RING, PACKET_STATISTICS, PACKET_TX_RING, PACKET_VERSION, SOL_PACKET } from './constants.js'
import { packetInit } from './packet-ops.js'
import { type PacketEnv, type PacketSock, pktSk } from './packet-sock.js'

export interface RingRequest {
  readonly blockSize: number
  readonly blockNr: number
  readonly frameSize: number
  readonly frameNr?: number
  readonly retireTov?: number
  readonly sizeofPriv?: number
  readonly feature?: number
}

const BUFFER_BYTES = 1 << 16
const HEADROOM = 66

export class TestPackets {
  readonly net: TestNet
  readonly cpu: Cpu
  readonly socks: SockEnv
  readonly packet: PacketEnv
  readonly task: Task
  readonly dev: NetDevice
  /** What the device was given to send, and has not completed: `complete` lets go of it. */
  readonly sent: SkBuff[] = []
  /** The device frees what it sends at once. */
  completes = true
  readonly val = new OptVal()
  readonly msg = new Msg()
  private readonly areas: { sk: Sock; buffer: UserBuffer }[] = []
  private readonly user: UserBuffer

  constructor(profile = 'linux-6.18-x86_64', bytes = 64 << 20) {
    const net = testNet({ profile, bytes })
    const { mem, skbs, cpus, clock, trace } = net
    this.net = net
    this.cpu = net.cpu
    this.socks = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile: net.profile })
    net.env.slots.sockWfree = this.socks.sockWfree
    this.packet = packetInit({ socks: this.socks, devs: net.env, seed: 7 })
    this.task = new Task(1, this.cpu, this.socks.initNet)
    this.dev = netdevRegister(net.env, {
      name: 'dummy0',
      ops: {
        startXmit: (cpu, skb) => {
          this.sent.push(skb)
          if (this.completes) this.complete(cpu)
          return 0
        },
      },
      setup: (dev) => {
        dev.noQueue = true
        dev.hwFeatures = NETIF_F_SG
        dev.features = NETIF_F_SG
        ethHwAddrSet(dev, '02:00:00:00:00:01')
      },
    }) as NetDevice
    netdevSetFeature(this.dev, NETIF_F_SG, true, this.cpu)
    devOpen(this.dev, this.cpu)
    this.user = userAlloc(mem, this.cpu, BUFFER_BYTES)!
    trackAllocations(mem)
  }

  /** Frees what the device holds. */
  complete(cpu = this.cpu): void {
    for (const skb of this.sent.splice(0)) this.free(cpu, skb)
  }

  private free(cpu: Cpu, skb: SkBuff): void {
    this.lengths.push(skb.len)
    consume(cpu, skb)
  }

  /** Lengths of what was sent. */
  readonly lengths: number[] = []

  /** @returns a socket, or a negative errno. @param protocol EtherType; 0 receives nothing. */
  socket(type = SOCK_RAW, protocol = ETH_P_ALL, dev: NetDevice | null = this.dev): Sock {
    const id = sockCreate(this.socks, this.cpu, this.task, AF_PACKET, type, 0)
    if (id < 0) throw new Error(`socket: ${id}`)
    const sk = this.socks.socks[id] as Sock
    const err = this.bind(sk, protocol, dev)
    if (err !== 0) throw new Error(`bind: ${err}`)
    return sk
  }

  bind(sk: Sock, protocol: number, dev: NetDevice | null): number {
    const address = new SockAddr()
    address.family = AF_PACKET
    address.ifindex = dev === null ? 0 : dev.id
    address.protocol = protocol
    return sk.ops.bind(this.cpu, this.task, sk, address)
  }

  set(sk: Sock, opt: number, value: number, level = SOL_PACKET): number {
    this.val.int = value | 0
    this.val.len = 4
    this.val.program = null
    return doSockSetsockopt(this.cpu, this.task, sk, level, opt, this.val)
  }

  setWords(sk: Sock, opt: number, words: readonly number[], len = words.length * 4): number {
    this.val.words.set(words)
    this.val.int = words[0] ?? 0
    this.val.len = len
    return doSockSetsockopt(this.cpu, this.task, sk, SOL_PACKET, opt, this.val)
  }

  filter(sk: Sock, program: readonly number[]): number {
    this.val.program = Int32Array.from(program)
    this.val.len = 16
    const err = doSockSetsockopt(this.cpu, this.task, sk, SOL_SOCKET, SO.SO_ATTACH_FILTER, this.val)
    this.val.program = null
    return err
  }

  get(sk: Sock, opt: number, len = 4, value = 0): number {
    this.val.int = value
    this.val.len = len
    return sk.ops.getsockopt(this.cpu, this.task, sk, SOL_PACKET, opt, this.val)
  }

  ring(sk: Sock, version: number, r: RingRequest, tx = false): number {
    const err = this.set(sk, PACKET_VERSION, version)
    if (err !== 0) return err
    const frameNr = r.frameNr ?? Math.floor(r.blockSize / r.frameSize) * r.blockNr
    const words = [r.blockSize, r.blockNr, r.frameSize, frameNr]
    if (version === 2) words.push(r.retireTov ?? 0, r.sizeofPriv ?? 0, r.feature ?? 0)
    return this.setWords(sk, tx ? PACKET_TX_RING : PACKET_RX_RING, words)
  }

  map(sk: Sock, bytes: number): UserBuffer {
    const buffer = sk.ops.mmap!(this.cpu, sk, 0, bytes)
    if (typeof buffer === 'number') throw new Error(`mmap: ${buffer}`)
    this.areas.push({ sk, buffer })
    return buffer
  }

  /** A frame arrives. @returns what the last handler said; -1 when there was no memory for it. */
  receive(frame: Uint8Array): number {
    const { net, cpu, dev } = this
    localBhDisable(cpu)
    const skb = allocSkb(net.skbs, cpu, frame.length + HEADROOM, net.mem.gfp.GFP_ATOMIC, 0, -1)
    let rc = -1
    if (skb !== null) {
      skbReserve(skb, HEADROOM)
      net.mem.u8.set(frame, skbPut(skb, frame.length) >>> 0)
      ethTypeTrans(skb, dev)
      rc = netifReceiveSkb(net.env, cpu, skb)
    }
    localBhEnable(net.env, cpu)
    return rc
  }

  send(sk: Sock, bytes: number, to?: SockAddr): number {
    this.msg.reset(MSG_DONTWAIT)
    if (to !== undefined) this.msg.name.copyFrom(to)
    iovIterInit(this.msg.iter, this.user, 0, bytes)
    return sk.ops.sendmsg(this.cpu, this.task, sk, this.msg, bytes)
  }

  recv(sk: Sock, bytes = BUFFER_BYTES, flags = 0): number {
    this.msg.reset(MSG_DONTWAIT)
    this.msg.wantName = true
    this.msg.wantControl = true
    iovIterInit(this.msg.iter, this.user, 0, bytes)
    return sk.ops.recvmsg(this.cpu, this.task, sk, this.msg, bytes, flags | MSG_DONTWAIT)
  }

  stats(sk: Sock): { packets: number; drops: number; freezes: number } {
    this.get(sk, PACKET_STATISTICS, 12)
    const [packets, drops, freezes] = this.val.words
    return { packets: packets!, drops: drops!, freezes: pktSk(sk).tpVersion === 2 ? freezes! : 0 }
  }

  po(sk: Sock): PacketSock {
    return pktSk(sk)
  }

  pass(ns: number): void {
    this.net.clock.runUntil(this.net.clock.nowNs + ns)
  }

  close(sk: Sock): void {
    for (const area of this.areas.filter((a) => a.sk === sk)) this.unmap(area)
    sk.ops.release(this.cpu, this.task, sk)
  }

  private unmap(area: { sk: Sock; buffer: UserBuffer }): void {
    this.areas.splice(this.areas.indexOf(area), 1)
    userFree(this.net.mem, this.cpu, area.buffer)
    area.sk.ops.munmap!(this.cpu, area.sk)
  }

  audit(): void {
    auditMemory(this.net.mem)
    auditSkbs(this.net.skbs)
    auditSocks(this.socks)
    auditPackets(this.packet)
  }

  /** Everything is closed: nothing may be left. */
  end(): void {
    this.complete()
    this.audit()
    assertPacketsQuiescent(this.packet)
    assertNetDevsQuiescent(this.net.env)
    if (this.net.clock.pending !== 0) throw new Error(`${this.net.clock.pending} timers are left`)
    assertSkbsQuiescent(this.net.skbs)
    assertNoLeaks(this.net.mem)
  }
}

const consume = (cpu: Cpu, skb: SkBuff): void => consumeSkb(cpu, skb, 'test')

/** Runs `attempt` with the n-th allocation failing, for every n that there is. @returns how many there are. */
export function failEveryAllocation(make: () => TestPackets, attempt: (t: TestPackets) => void): number {
  for (let n = 1; ; n++) {
    const t = make()
    const injector = failNth(n)
    t.net.mem.fault = injector
    try {
      attempt(t)
    } finally {
      t.net.mem.fault = null
    }
    t.end()
    if (injector.failed === 0) return n - 1
    if (n > 10_000) throw new Error('allocations without end')
  }
}
