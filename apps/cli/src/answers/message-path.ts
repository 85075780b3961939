/**
 * The ways of a message into a socket, each on a machine of its own: what `netmem truesize` and `netmem fit`
 * send through, to look at what the kernel then holds.
 */
import { assert, ERRNO, type KernelProfile } from '@netmem/base'
import { DMA_BIT_MASK, deviceCreate, dmaSetMaskAndCoherent } from '@netmem/dma'
import * as system from '@netmem/kernel-model'
import { bootKernel, buildFrame, type Kernel, type Process, SOCK_NONBLOCK, sysAccept } from '@netmem/kernel-model'
import { AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_STREAM, type Sock, SockAddr } from '@netmem/sockmem'
import { devOpen, devSetMtu, ethHwAddrSet, type PpNic, ppNicCreate } from '@netmem/virtual-nic'
import { InputError } from '../errors.js'

/** A message was not taken: a negative errno of the sender, or 0 where the receiver dropped it. */
export type Outcome = { readonly sent: true } | { readonly sent: false; readonly why: string }

/** One way of a message into a socket, open and empty. */
export interface MessagePath {
  readonly kernel: Kernel
  /** Who holds what is under way. */
  readonly receiver: Sock
  /** Who pays for it: the receiver, but for AF_UNIX, where it is the sender. */
  readonly payer: Sock
  /** What the payer is charged, in bytes. */
  charged(): number
  /** Sends one message of so many bytes of payload. */
  send(bytes: number): Outcome
  /** Receives everything that waits. */
  drain(): void
}

/** What a path is to people. */
export interface PathFacts {
  readonly about: string
  /** The buffer that bounds what waits, as programs and sysctls name it. */
  readonly buffer: 'SO_RCVBUF' | 'SO_SNDBUF'
  /** Whether messages keep their borders. */
  readonly stream: boolean
  /** Whether a message's cost depends on those before it: the window advertised, the place in a shared page. */
  readonly remembers: boolean
  /** Largest payload of one message, in bytes. */
  readonly most: number
  open(process: Process, bufferBytes: number | null): MessagePath
}

const ETHERNET_MTU = 1500
const LARGE = 1 << 20
const PORT = 7000
/** Longer than any delayed acknowledgement, shorter than what a closed window is probed after. */
const ACK_NS = 60e6
export const WINDOW_CLOSED = 'the window is closed'
const MAC = '02:00:00:00:00:0a'
const IP = '10.0.0.1'
/** @returns the socket behind a descriptor of the model. */
export const sockOf = (process: Process, fd: number): Sock => process.files.get(fd)?.priv as Sock

const address = (ip: number, port: number): SockAddr => {
  const addr = new SockAddr()
  addr.family = AF_INET
  addr.addr = ip
  addr.port = port
  return addr
}
const LOOPBACK = 0x7f000001

/** A limit as it is in force from the first byte on: the default that a new socket takes. */
function bufferDefault(process: Process, name: string, bytes: number | null): void {
  if (bytes === null) return
  const text = name.includes('tcp') ? `4096 ${bytes} ${bytes}` : String(bytes)
  const { kernel } = process
  if (kernel.sysctlWrite(process.net, name, text) < 0)
    throw new InputError(
      `a buffer of ${bytes} bytes: the kernel refuses it, expected ${kernel.profile.derived.SOCK_MIN_RCVBUF} or more`,
    )
}

/** What a call says when it fails. */
const outcome = (ret: number): Outcome =>
  ret >= 0 ? { sent: true } : { sent: false, why: Object.keys(ERRNO).find((key) => ERRNO[key as 'EAGAIN'] === -ret)! }

/** A receiver of UDP at the port of frames, and a path whose sender is `put`. */
function udpPath(
  process: Process,
  bufferBytes: number | null,
  ip: number,
  port: number,
  sender: (rx: Sock) => (bytes: number) => Outcome,
): MessagePath {
  const { kernel } = process
  bufferDefault(process, 'net.core.rmem_default', bufferBytes)
  const fd = system.sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
  system.sysBind(process, fd, address(ip, port))
  const receiver = sockOf(process, fd)
  const put = sender(receiver)
  return {
    kernel,
    receiver,
    payer: receiver,
    charged: () => receiver.rmemAlloc,
    send(bytes) {
      const before = receiver.receiveQueue.qlen
      const sent = put(bytes)
      if (!sent.sent) return sent
      kernel.passTime(1e6)
      return receiver.receiveQueue.qlen > before ? sent : { sent: false, why: 'dropped' }
    },
    drain: () => {
      while (system.sysRecvmsg(process, fd, LARGE) >= 0);
    },
  }
}

function udpLoopback(process: Process, bufferBytes: number | null): MessagePath {
  return udpPath(process, bufferBytes, LOOPBACK, PORT, () => {
    const tx = system.sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    system.sysConnect(process, tx, address(LOOPBACK, PORT))
    sockOf(process, tx).sndbuf = LARGE
    return (bytes) => outcome(system.sysSendmsg(process, tx, bytes))
  })
}

/** Frames of UDP as they come from a wire: a checksum of zero is none. */
const frameOf = (payload: number): Uint8Array =>
  buildFrame({ udp: payload, udp_csum: 'zero' }, { mac: MAC, ip: IP, ethernet: true })

function tap(process: Process, bufferBytes: number | null): MessagePath {
  const { kernel } = process
  return udpPath(process, bufferBytes, 0, PORT, () => {
    const fd = kernel.links.tun.open(process, { name: 'tap0', flags: ['IFF_TAP', 'IFF_NO_PI'] })
    const dev = kernel.links.device(process.net, 'tap0')
    kernel.links.configure(dev, { mac: MAC, ip: IP, prefix: 24 })
    kernel.links.setUp(dev, true)
    return (bytes) => outcome(kernel.links.tun.write(process, fd, frameOf(bytes), null))
  })
}

function veth(process: Process, bufferBytes: number | null, xdp: boolean): MessagePath {
  const { kernel } = process
  const far = kernel.links.netCreate()
  return udpPath(process, bufferBytes, 0, PORT, () => {
    kernel.links.vethCreate({ net: process.net, name: 'v0' }, { net: far, name: 'v1' })
    const [near, other] = [kernel.links.device(process.net, 'v0'), kernel.links.device(far, 'v1')]
    kernel.links.configure(near, { mac: MAC, ip: IP, prefix: 24 })
    kernel.links.configure(other, { mac: '02:00:00:00:00:0b', ip: '10.0.0.2', prefix: 24 })
    for (const dev of [near, other]) kernel.links.setUp(dev, true)
    kernel.links.neighbour(other, IP, MAC)
    if (xdp) kernel.links.xdpAttach(near, { action: 'pass', native: true, frags: false })
    const sender = kernel.spawn(process.cpu, far)
    const tx = system.sysSocket(sender, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    system.sysConnect(sender, tx, address((10 << 24) | 1, PORT))
    sockOf(sender, tx).sndbuf = LARGE
    return (bytes) => outcome(system.sysSendmsg(sender, tx, bytes))
  })
}

function pagePool(process: Process, bufferBytes: number | null): MessagePath {
  const { kernel, cpu } = process
  return udpPath(process, bufferBytes, 0, PORT, () => {
    const device = deviceCreate(kernel.dma, { name: '0000:00:03.0', driver: 'pp_nic' })
    dmaSetMaskAndCoherent(device, DMA_BIT_MASK(64))
    const dev = ppNicCreate(kernel.devs, { name: 'eth0', device, rxRing: 256, rxChecksum: 'trust' })
    assert(typeof dev !== 'number', 'the network card could not be made')
    process.net.devices.set('eth0', dev)
    ethHwAddrSet(dev, MAC)
    assert(devSetMtu(dev, ETHERNET_MTU, cpu) === 0 && devOpen(dev, cpu) === 0, 'the network card did not come up')
    kernel.links.configure(dev, { ip: IP, prefix: 24 })
    const { hw } = dev.priv as PpNic
    return (bytes) => {
      const frame = frameOf(bytes)
      hw.receive(frame, 0, frame.length)
      kernel.passTime(1e6)
      return { sent: true }
    }
  })
}

function tcp(process: Process, bufferBytes: number | null): MessagePath {
  const { kernel } = process
  bufferDefault(process, 'net.ipv4.tcp_rmem', bufferBytes)
  const listening = system.sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  system.sysBind(process, listening, address(LOOPBACK, PORT))
  system.sysListen(process, listening, 1)
  const tx = system.sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  system.sysConnect(process, tx, address(LOOPBACK, PORT))
  kernel.passTime(1e6)
  const rx = sysAccept(process, listening, SOCK_NONBLOCK)
  const [sender, receiver] = [sockOf(process, tx), sockOf(process, rx)]
  const nodelay = process.val
  nodelay.int = 1
  nodelay.len = 4
  system.sysSetsockopt(process, tx, 6, system.TCP_OPTIONS.TCP_NODELAY, nodelay)
  return {
    kernel,
    receiver,
    payer: receiver,
    charged: () => receiver.rmemAlloc,
    send(bytes) {
      const ret = system.sysSendmsg(process, tx, bytes)
      if (ret < 0) return outcome(ret)
      // Data that the window does not let through stays with the sender; what arrived is acknowledged in time.
      for (let waited = 0; waited < ACK_NS && sender.wmemQueued !== 0; waited += 1e6) kernel.passTime(1e6)
      return sender.wmemQueued === 0 && ret === bytes ? { sent: true } : { sent: false, why: WINDOW_CLOSED }
    },
    drain: () => {
      while (system.sysRecvmsg(process, rx, LARGE) > 0);
    },
  }
}

function unix(process: Process, bufferBytes: number | null, type: number): MessagePath {
  bufferDefault(process, 'net.core.wmem_default', bufferBytes)
  const pair = new Int32Array(2)
  system.sysSocketpair(process, AF_UNIX, type | SOCK_NONBLOCK, 0, pair)
  const [tx, rx] = [pair[0]!, pair[1]!]
  const [sender, receiver] = [sockOf(process, tx), sockOf(process, rx)]
  // A sender's count starts at one, for the socket itself.
  const empty = sender.wmemAlloc
  return {
    kernel: process.kernel,
    receiver,
    payer: sender,
    charged: () => sender.wmemAlloc - empty,
    send(bytes) {
      const ret = system.sysSendmsg(process, tx, bytes)
      return ret >= 0 && ret < bytes ? { sent: false, why: 'EAGAIN' } : outcome(ret)
    },
    drain: () => {
      while (system.sysRecvmsg(process, rx, LARGE) > 0);
    },
  }
}

const UDP_MOST = 65507
const FRAME_MOST = ETHERNET_MTU - 28

export const messagePaths: Readonly<Record<string, PathFacts>> = {
  'udp-loopback': {
    about: 'a UDP datagram over loopback',
    buffer: 'SO_RCVBUF',
    stream: false,
    remembers: false,
    most: UDP_MOST,
    open: udpLoopback,
  },
  tap: {
    about: 'a UDP datagram from a TAP device',
    buffer: 'SO_RCVBUF',
    stream: false,
    remembers: false,
    most: FRAME_MOST,
    open: tap,
  },
  veth: {
    about: 'a UDP datagram over a veth pair',
    buffer: 'SO_RCVBUF',
    stream: false,
    remembers: false,
    most: UDP_MOST,
    open: (process, bytes) => veth(process, bytes, false),
  },
  'veth-xdp': {
    about: 'a UDP datagram over a veth pair whose receiving end runs a native XDP program',
    buffer: 'SO_RCVBUF',
    stream: false,
    remembers: true,
    most: UDP_MOST,
    open: (process, bytes) => veth(process, bytes, true),
  },
  'page-pool': {
    about: 'a UDP datagram from a network card whose driver takes its buffers from a page pool',
    buffer: 'SO_RCVBUF',
    stream: false,
    remembers: false,
    most: FRAME_MOST,
    open: pagePool,
  },
  tcp: {
    about: 'one TCP write over loopback',
    buffer: 'SO_RCVBUF',
    stream: true,
    remembers: true,
    most: LARGE,
    open: tcp,
  },
  unix: {
    about: 'a datagram on an AF_UNIX socket',
    buffer: 'SO_SNDBUF',
    stream: false,
    remembers: false,
    most: LARGE,
    open: (process, bytes) => unix(process, bytes, SOCK_DGRAM),
  },
  'unix-stream': {
    about: 'one write on an AF_UNIX stream',
    buffer: 'SO_SNDBUF',
    stream: true,
    remembers: false,
    most: LARGE,
    open: (process, bytes) => unix(process, bytes, SOCK_STREAM),
  },
}

/** @throws InputError naming the paths there are. */
export function pathOf(name: string): PathFacts {
  if (!Object.hasOwn(messagePaths, name))
    throw new InputError(`--path ${name}: no such path, expected one of ${Object.keys(messagePaths).join(', ')}`)
  return messagePaths[name]!
}

/** Boots a machine and opens a path on it. @param bufferBytes the buffer in force; null leaves the kernel's default. */
export function openPath(facts: PathFacts, profile: KernelProfile, bufferBytes: number | null): MessagePath {
  const kernel = bootKernel({ profile, cpus: 1, limits: 'memory', memoryBytes: 512 << 20 })
  return facts.open(kernel.spawn(), bufferBytes)
}
