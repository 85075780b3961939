/**
 * What MSG_ZEROCOPY saves: 64 KiB writes to a TCP connection through a card that gathers, by copy and by reference.
 * The card reads headers only, as the CPU's part of it does, and its other side acknowledges every packet at once.
 * `setup` boots and connects, `run(n)` writes `n` times and returns a checksum of its work.
 */
import { type Cpu, kernelProfile } from '@netmem/base'
import { type UserBuffer, userAlloc } from '@netmem/memory'
import { allocSkb, CHECKSUM_UNNECESSARY, consumeSkb, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { AF_INET, MSG_ERRQUEUE, MSG_ZEROCOPY, SO, SOCK_STREAM, SOL_SOCKET, SockAddr } from '@netmem/sockmem'
import {
  ETH_P_IP,
  ethHwAddrSet,
  ethTypeTrans,
  NETIF_F_HW_CSUM,
  NETIF_F_SG,
  NETIF_F_TSO,
  type NetDevice,
  type NetDeviceOps,
  netdevRegister,
  netifRx,
} from '@netmem/virtual-nic'
import {
  bootKernel,
  type Process,
  SOCK_NONBLOCK,
  sysConnect,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysSocket,
} from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const WRITE = 65536
/** Writes go round 96 MiB, which no cache holds: what a program streams it does not send again. */
const WRITES = 1536
/** Sends between two looks at the error queue. */
const SENDS_TOLD = 64
const ETH = 14
const IP = 20
const TCP = 20
const FRAME = ETH + IP + TCP
const SYN_FRAME = FRAME + 8
const SYN = 2
const ACK = 16
const A_MAC = '02:00:00:00:00:0a'
const B_MAC = '02:00:00:00:00:0b'

/** The peer behind the card: answers a SYN, acknowledges what comes, says nothing. */
class Peer {
  packets = 0
  bytes = 0

  /** The card's `ndo_start_xmit`. */
  transmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
    const { dv, u8 } = dev.env.mem
    const at = (skb.data >>> 0) + ETH
    const th = at + IP
    const payload = skb.len - ETH - IP - ((u8[th + 12]! >> 4) << 2)
    const flags = u8[th + 13]!
    const seq = dv.getInt32(th + 4)
    this.packets += 1
    this.bytes = (this.bytes + payload) | 0
    if ((flags & SYN) !== 0) this.answer(cpu, dev, at, (seq + 1) | 0, SYN | ACK)
    else if (payload > 0) this.answer(cpu, dev, at, (seq + payload) | 0, ACK)
    consumeSkb(cpu, skb, 'card')
    return 0
  }

  private answer(cpu: Cpu, dev: NetDevice, to: number, ack: number, flags: number): void {
    const { mem, skbs } = dev.env
    const { dv, u8 } = mem
    const syn = (flags & SYN) !== 0
    const length = syn ? SYN_FRAME : FRAME
    const skb = allocSkb(skbs, cpu, length + 64, mem.gfp.GFP_ATOMIC, 0, -1)
    if (skb === null) throw new Error('bench: no memory for an acknowledgement')
    skbReserve(skb, 64)
    const at = skbPut(skb, length) >>> 0
    u8.copyWithin(at, to - ETH + 6, to - ETH + 12)
    u8.copyWithin(at + 6, to - ETH, to - ETH + 6)
    dv.setUint16(at + 12, ETH_P_IP)
    const ip = at + ETH
    dv.setInt32(ip, 0x45000000 | (length - ETH))
    dv.setInt32(ip + 4, 0x4000)
    dv.setInt32(ip + 8, 0x40060000)
    dv.setInt32(ip + 12, dv.getInt32(to + 16))
    dv.setInt32(ip + 16, dv.getInt32(to + 12))
    let sum = 0
    for (let i = 0; i < IP; i += 2) sum += dv.getUint16(ip + i)
    sum = (sum & 0xffff) + (sum >>> 16)
    sum = (sum & 0xffff) + (sum >>> 16)
    dv.setUint16(ip + 10, ~sum)
    const th = ip + IP
    dv.setUint16(th, dv.getUint16(to + IP + 2))
    dv.setUint16(th + 2, dv.getUint16(to + IP))
    dv.setInt32(th + 4, syn ? 1 : 2)
    dv.setInt32(th + 8, ack)
    dv.setInt32(th + 12, ((syn ? 7 : 5) << 28) | (flags << 16) | 0xffff)
    dv.setInt32(th + 16, 0)
    if (syn) {
      // MSS 1460 and a window scale of 10; no timestamps.
      dv.setInt32(th + 20, 0x020405b4)
      dv.setInt32(th + 24, 0x0103030a)
    }
    skb.ipSummed = CHECKSUM_UNNECESSARY
    ethTypeTrans(skb, dev)
    netifRx(dev.env, cpu, skb)
  }
}

function set(process: Process, fd: number, opt: number, value: number): void {
  const { val } = process
  val.int = value
  val.len = 4
  if (sysSetsockopt(process, fd, SOL_SOCKET, opt, val) !== 0) throw new Error(`bench: option ${opt}`)
}

function sender(flags: number): BenchCase {
  const peer = new Peer()
  const ops: NetDeviceOps = { startXmit: (cpu, skb, dev) => peer.transmit(cpu, skb, dev) }
  let process: Process
  let fd: number
  let buffer: UserBuffer
  const params: { buffer?: UserBuffer; offset: number; flags: number }[] = []
  const errors = { flags: MSG_ERRQUEUE }
  let next = 0
  return {
    unit: 'ns/op',
    setup: () => {
      peer.packets = 0
      peer.bytes = 0
      next = 0
      params.length = 0
      const kernel = bootKernel({
        profile: kernelProfile('linux-6.18-x86_64'),
        cpus: 1,
        memoryBytes: 192 << 20,
        syscallNs: 0,
        sysctl: { 'net.ipv4.tcp_congestion_control': 'reno' },
      })
      const features = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO
      const dev = netdevRegister(kernel.devs, {
        name: 'eth0',
        ops,
        setup: (card) => {
          card.features = features
          card.hwFeatures = features
          card.noQueue = true
        },
      }) as NetDevice
      ethHwAddrSet(dev, A_MAC)
      kernel.initNet.devices.set('eth0', dev)
      kernel.links.configure(dev, { ip: '10.0.0.1', prefix: 24 })
      kernel.links.neighbour(dev, '10.0.0.2', B_MAC)
      kernel.links.setUp(dev, true)
      process = kernel.spawn(kernel.cpus[0]!, kernel.initNet)
      fd = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
      const to = new SockAddr()
      to.family = AF_INET
      to.addr = 0x0a000002
      to.port = 5001
      sysConnect(process, fd, to)
      set(process, fd, SO.SO_ZEROCOPY, 1)
      // Acknowledgements wait until the call is over: a whole write must fit.
      set(process, fd, SO.SO_SNDBUF, 1 << 20)
      buffer = userAlloc(kernel.mem, kernel.cpus[0]!, WRITE * WRITES) as UserBuffer
      for (let i = 0; i < WRITES; i++) params.push({ buffer, offset: i * WRITE, flags })
    },
    run(n) {
      for (let i = 0; i < n; i++) {
        const sent = sysSendmsg(process, fd, WRITE, params[next]!)
        if (sent !== WRITE) throw new Error(`bench: sendmsg answered ${sent}`)
        next = (next + 1) % WRITES
        // One notification tells of all sends since the last.
        if (flags !== 0 && next % SENDS_TOLD === 0 && sysRecvmsg(process, fd, 0, errors) !== 0)
          throw new Error('bench: no notification')
      }
      return peer.bytes
    },
  }
}

export const cases: Record<string, BenchCase> = {
  'tx.copy.64K': sender(0),
  'tx.zerocopy.64K': sender(MSG_ZEROCOPY),
}
