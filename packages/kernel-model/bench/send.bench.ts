/**
 * Sending, measured on a whole machine: a datagram from `sendmsg` to the cable of a card, and one from a namespace
 * to another through a veth pair, sent and read. System calls take no virtual time here. `setup` boots, `run(n)`
 * sends `n` datagrams and returns a checksum of its work.
 */
import { kernelProfile } from '@netmem/base'
import { deviceCreate } from '@netmem/dma'
import { AF_INET, SOCK_DGRAM, SockAddr } from '@netmem/sockmem'
import { devOpen, ethHwAddrSet, type NetDevice, type PpNic, ppNicCreate } from '@netmem/virtual-nic'
import {
  bootKernel,
  type Kernel,
  type Net,
  type Process,
  sysBind,
  sysRecvmsg,
  sysSendmsg,
  sysSocket,
} from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const BATCH = 64
const PORT = 5007
const RX_USECS = 20
const A_MAC = '02:00:00:00:00:0a'
const B_MAC = '02:00:00:00:00:0b'

const boot = (): Kernel =>
  bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), cpus: 1, memoryBytes: 64 << 20, syscallNs: 0 })

function address(text: number, port: number): SockAddr {
  const addr = new SockAddr()
  addr.family = AF_INET
  addr.addr = text
  addr.port = port
  return addr
}

function configure(kernel: Kernel, dev: NetDevice, ip: string, mac: string, peer: string, peerMac: string): void {
  ethHwAddrSet(dev, mac)
  kernel.links.configure(dev, { ip, prefix: 24 })
  kernel.links.neighbour(dev, peer, peerMac)
}

/** A socket of a process in `net`. */
function socket(kernel: Kernel, net: Net): { process: Process; fd: number } {
  const process = kernel.spawn(kernel.cpus[0]!, net)
  return { process, fd: sysSocket(process, AF_INET, SOCK_DGRAM) }
}

/** The card takes each frame at once; its interrupt frees what was sent, a quarter of a batch at a time. */
function transmit(payload: number): BenchCase {
  let kernel: Kernel
  let nic: PpNic
  let from: { process: Process; fd: number }
  const params = { to: address(0x0a000002, PORT) }
  let frames = 0
  return {
    unit: 'ns/packet',
    setup: () => {
      kernel = boot()
      frames = 0
      const device = deviceCreate(kernel.dma, { name: 'nic' })
      const dev = ppNicCreate(kernel.devs, { name: 'eth0', device, rxFrames: BATCH, rxUsecs: RX_USECS }) as NetDevice
      nic = dev.priv as PpNic
      nic.hw.wire = {
        receive: (_bytes, _at, len) => {
          frames = (frames + len) | 0
        },
      }
      kernel.initNet.devices.set('eth0', dev)
      devOpen(dev, kernel.cpus[0]!)
      configure(kernel, dev, '10.0.0.1', A_MAC, '10.0.0.2', B_MAC)
      from = socket(kernel, kernel.initNet)
    },
    run(n) {
      for (let i = 0; i < n; i++) {
        const sent = sysSendmsg(from.process, from.fd, payload, params)
        if (sent !== payload) throw new Error(`bench: sendmsg answered ${sent}`)
        // Byte queue limits let few frames out until the first are done.
        if ((i & 15) === 15) kernel.passTime(RX_USECS * 1000)
      }
      return frames
    },
  }
}

function veth(payload: number): BenchCase {
  let from: { process: Process; fd: number }
  let to: { process: Process; fd: number }
  const params = { to: address(0x0a000002, PORT) }
  return {
    unit: 'ns/packet',
    setup: () => {
      const kernel = boot()
      const other = kernel.links.netCreate()
      kernel.links.vethCreate({ net: kernel.initNet, name: 'v0' }, { net: other, name: 'v1' })
      const [a, b] = [kernel.links.device(kernel.initNet, 'v0'), kernel.links.device(other, 'v1')]
      for (const dev of [a, b]) kernel.links.setUp(dev, true)
      configure(kernel, a, '10.0.0.1', A_MAC, '10.0.0.2', B_MAC)
      configure(kernel, b, '10.0.0.2', B_MAC, '10.0.0.1', A_MAC)
      from = socket(kernel, kernel.initNet)
      to = socket(kernel, other)
      sysBind(to.process, to.fd, address(0x0a000002, PORT))
    },
    run(n) {
      let bytes = 0
      for (let i = 0; i < n; i += BATCH) {
        for (let j = 0; j < BATCH; j++) sysSendmsg(from.process, from.fd, payload, params)
        for (let j = 0; j < BATCH; j++) bytes += sysRecvmsg(to.process, to.fd, 2048)
      }
      if (bytes !== Math.ceil(n / BATCH) * BATCH * payload) throw new Error(`bench: ${bytes} bytes arrived`)
      return bytes
    },
  }
}

export const cases: Record<string, BenchCase> = {
  'tx.64B': transmit(64),
  'tx.1400B': transmit(1400),
  'veth.64B': veth(64),
}
