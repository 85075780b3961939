import crypto from 'node:crypto'
import { ERRNO, kernelProfile } from '@netmem/base'
import { DMA_BIT_MASK, deviceCreate, deviceRemove, dmaSetMaskAndCoherent } from '@netmem/dma'
import { failNth, userRead, userWrite } from '@netmem/memory'
import { AF_INET, MSG_MORE, SOCK_STREAM } from '@netmem/sockmem'
import { Link, type NetDevice, type PpNic, ppNicCreate, ppNicDestroy } from '@netmem/virtual-nic'
import {
  SOL_TLS,
  TLS_RX,
  TLS_SET_RECORD_TYPE,
  TLS_TX,
  TLS_TX_ZEROCOPY_RO,
  type TlsEnv,
  type TlsNicEngine,
  tlsCryptoFromNode,
  tlsNicAttach,
} from '@netmem/zerocopy'
import { describe, expect, it } from 'vitest'
import { bootKernel } from './boot.js'
import { O_RDWR } from './file.js'
import type { Kernel } from './kernel.js'
import type { Net } from './net.js'
import { ipv4Address, setInt } from './player/calls.js'
import type { Process } from './process.js'
import { sysSendfile } from './splice-calls.js'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysListen,
  sysLseek,
  sysRead,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysSocket,
  sysWrite,
} from './syscalls.js'
import { auditKernel } from './testing.js'
import { SOL_TCP, TCP_OPTIONS } from './uapi.js'
import { sysOpenFile } from './vfs-file.js'

const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const
const IPS = ['192.0.2.1', '192.0.2.2'] as const
const PORT = 443
const ROOM = 1 << 17

/** Two namespaces, a card in each, a cable between them; the first card can encrypt. */
interface Rig {
  readonly kernel: Kernel
  readonly sender: Process
  readonly receiver: Process
  readonly engine: TlsNicEngine | null
  readonly cards: readonly [NetDevice, NetDevice]
  /** All that went over the cable from the first card, as it was. */
  readonly wire: Uint8Array[]
}

function rig(profile: string, loss: number, offload: boolean): Rig {
  const kernel = bootKernel({
    profile: kernelProfile(profile),
    cpus: 1,
    memoryBytes: 128 << 20,
    crypto: tlsCryptoFromNode(crypto),
  })
  const nets = [kernel.links.netCreate(), kernel.links.netCreate()] as const
  const plug = (net: Net, i: 0 | 1): NetDevice => {
    const device = deviceCreate(kernel.dma, { name: `0000:00:0${3 + i}.0`, driver: 'pp_nic' })
    dmaSetMaskAndCoherent(device, DMA_BIT_MASK(64))
    const dev = ppNicCreate(kernel.devs, { name: 'eth0', ns: net.ns.id, device, rxRing: 256, rxChecksum: 'verify' })
    if (typeof dev === 'number') throw new Error(`no card: ${dev}`)
    net.devices.set('eth0', dev)
    kernel.links.configure(dev, { mac: MACS[i], ip: IPS[i], prefix: 24 })
    kernel.links.neighbour(dev, IPS[1 - i]!, MACS[1 - i]!)
    return dev
  }
  const cards = [plug(nets[0], 0), plug(nets[1], 1)] as const
  const [a, b] = cards.map((dev) => (dev.priv as PpNic).hw) as [PpNic['hw'], PpNic['hw']]
  const wire: Uint8Array[] = []
  const there = new Link(kernel.clock, b, { delayNs: 20_000, loss, seed: 5 })
  a.wire = {
    receive: (bytes, at, len) => {
      wire.push(bytes.slice(at, at + len))
      there.receive(bytes, at, len)
    },
  }
  b.wire = new Link(kernel.clock, a, { delayNs: 20_000, loss: loss / 2, seed: 6 })
  const engine = offload ? tlsNicAttach(cards[0], a) : null
  for (const dev of cards) expect(kernel.links.setUp(dev, true)).toBe(0)
  const [sender, receiver] = nets.map((net) => kernel.spawn(kernel.cpus[0]!, net)) as [Process, Process]
  return { kernel, sender, receiver, engine, cards, wire }
}

/** Connects over the cable, with keys for one direction. @returns the sending and the receiving descriptor. */
function connect({ kernel, sender, receiver }: Rig, before: string, withKey = true): readonly [number, number] {
  const listener = sysSocket(receiver, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  expect(sysBind(receiver, listener, ipv4Address(IPS[1], PORT))).toBe(0)
  expect(sysListen(receiver, listener, 1)).toBe(0)
  const tx = sysSocket(sender, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  sysConnect(sender, tx, ipv4Address(IPS[1], PORT))
  let rx = -1
  for (let i = 0; i < 50 && rx < 0; i += 1) {
    kernel.passTime(1e9)
    rx = sysAccept(receiver, listener, SOCK_NONBLOCK)
  }
  sysClose(receiver, listener)
  // What is sent before the key is set goes as it is.
  write(sender, tx, new TextEncoder().encode(before))
  for (const [process, fd, opt] of [
    [receiver, rx, TLS_RX],
    [sender, tx, TLS_TX],
  ] as const) {
    process.val.text = 'tls'
    process.val.len = 3
    expect(sysSetsockopt(process, fd, SOL_TCP, TCP_OPTIONS.TCP_ULP, process.val)).toBe(0)
    if (opt === TLS_RX) {
      let got = ''
      for (let i = 0; i < 50 && got.length < before.length; i += 1) {
        kernel.passTime(1e9)
        const ret = sysRecvmsg(process, fd, before.length - got.length)
        if (ret > 0) got += Buffer.from(userRead(kernel.mem, process.buffer('recv', ROOM), 0, ret)).toString()
      }
      expect(got).toBe(before)
    }
    if (opt === TLS_RX || withKey) expect(setKey(process, fd, opt)).toBe(0)
  }
  return [tx, rx]
}

function setKey(process: Process, fd: number, opt: number): number {
  const bytes = new Uint8Array(process.val.words.buffer)
  bytes.fill(0)
  bytes.set([3, 3, 51, 0])
  bytes.fill(7, 4, 32)
  process.val.len = 40
  return sysSetsockopt(process, fd, SOL_TLS, opt, process.val)
}

function write(process: Process, fd: number, data: Uint8Array, flags = 0, type?: number): number {
  userWrite(process.kernel.mem, process.buffer('send', Math.max(data.length, 1)), 0, data)
  const control = type === undefined ? {} : { control: [{ level: SOL_TLS, type: TLS_SET_RECORD_TYPE, value: type }] }
  return sysSendmsg(process, fd, data.length, { flags, ...control })
}

function close({ kernel, sender, receiver, cards }: Rig, tx: number, rx: number): void {
  sysClose(sender, tx)
  sysClose(receiver, rx)
  kernel.settle()
  auditKernel(kernel)
  for (const process of [sender, receiver]) kernel.exit(process)
  for (const dev of cards) {
    const device = (dev.priv as PpNic).hw.device
    ppNicDestroy(dev, kernel.cpus[0]!)
    deviceRemove(kernel.cpus[0]!, device)
  }
  auditKernel(kernel)
}

const flowsOf = (kernel: Kernel): number =>
  (kernel.inet.owned.tls as TlsEnv).contexts.filter((ctx) => ctx !== null && ctx.device !== null).length

describe.each(['linux-6.1-x86_64', 'linux-6.18-x86_64'])('kTLS on a card that encrypts, %s', (profile) => {
  it.each([0, 0.05])(
    'the receiver decrypts in software what the card encrypted, with %d of all frames lost',
    (loss) => {
      const machine = rig(profile, loss, true)
      const { kernel, sender, receiver, engine } = machine
      const [tx, rx] = connect(machine, 'plain before TLS')
      expect(sender.net.ns.counter('Tls.TlsTxDevice')).toBe(1)
      expect(sender.net.ns.counter('Tls.TlsCurrTxDevice')).toBe(1)
      expect(sender.net.ns.counter('Tls.TlsTxSw')).toBe(0)
      expect(engine!.flowCount).toBe(1)
      const data = Uint8Array.from({ length: 90_000 }, (_, i) => (i * 31) & 0xff)
      const parts: Uint8Array[] = []
      let sent = 0
      let read = 0
      for (let i = 0; i < 2000 && read < data.length; i += 1) {
        if (sent < data.length) {
          const flags = i % 3 === 0 && sent + 9000 < data.length ? MSG_MORE : 0
          sent += Math.max(0, write(sender, tx, data.subarray(sent, sent + 9000), flags))
        }
        auditKernel(kernel)
        kernel.passTime(20e6)
        const got = sysRecvmsg(receiver, rx, ROOM, { wantControl: true })
        expect(got).not.toBe(0)
        if (got > 0) {
          parts.push(userRead(kernel.mem, receiver.buffer('recv', ROOM), 0, got))
          read += got
        }
        auditKernel(kernel)
      }
      expect(Buffer.concat(parts).equals(data)).toBe(true)
      expect(receiver.net.ns.counter('Tls.TlsDecryptError')).toBe(0)
      const device = (kernel.inet.owned.tls as TlsEnv).contexts.find((ctx) => ctx?.device != null)!.device!
      // A tail loss probe is a retransmission too.
      const again = kernel.tcpInfo(sender, tx)!.total_retrans!
      expect(device.resyncs > 0).toBe(again > 0)
      if (loss > 0) expect(device.resyncs).toBeGreaterThan(0)
      expect(device.drops).toBe(0)
      close(machine, tx, rx)
      expect(flowsOf(kernel)).toBe(0)
      expect(engine!.flowCount).toBe(0)
      expect(sender.net.ns.counter('Tls.TlsCurrTxDevice')).toBe(0)
    },
  )

  it('no plain text is on the cable, whatever the type of a record', () => {
    const machine = rig(profile, 0, true)
    const { kernel, sender, receiver, wire } = machine
    const [tx, rx] = connect(machine, 'x')
    const words = 'nobody on the cable reads these words'
    write(sender, tx, new TextEncoder().encode(words))
    write(sender, tx, Uint8Array.of(1, 0), 0, 21)
    kernel.passTime(1e9)
    const text = Buffer.concat(wire).toString('latin1')
    expect(text).not.toContain('nobody on the cable')
    const first = sysRecvmsg(receiver, rx, ROOM, { wantControl: true })
    expect(Buffer.from(userRead(kernel.mem, receiver.buffer('recv', ROOM), 0, first)).toString()).toBe(words)
    expect(sysRecvmsg(receiver, rx, ROOM, { wantControl: true })).toBe(2)
    expect(receiver.msg.control?.[0]?.value).toBe(21)
    close(machine, tx, rx)
  })

  it('records are kept until they are acknowledged, and no longer', () => {
    const machine = rig(profile, 0, true)
    const { kernel, sender } = machine
    const [tx, rx] = connect(machine, 'x')
    const device = (kernel.inet.owned.tls as TlsEnv).contexts.find((ctx) => ctx?.device != null)!.device!
    write(sender, tx, new Uint8Array(20_000))
    expect(device.recordsList).toHaveLength(2)
    kernel.passTime(1e9)
    expect(device.recordsList).toHaveLength(0)
    close(machine, tx, rx)
  })

  it('a card that cannot encrypt leaves it to the CPU', () => {
    const machine = rig(profile, 0, false)
    const [tx, rx] = connect(machine, 'x')
    expect(machine.sender.net.ns.counter('Tls.TlsTxDevice')).toBe(0)
    expect(machine.sender.net.ns.counter('Tls.TlsTxSw')).toBe(1)
    close(machine, tx, rx)
  })

  it.each([
    [true, true],
    [false, true],
    [true, false],
    [false, false],
  ])('sendfile with the read-only promise %s, a card that encrypts %s: who copies', (promise, offload) => {
    const machine = rig(profile, 0, offload)
    const { kernel, sender, receiver } = machine
    const [tx, rx] = connect(machine, 'x')
    sender.val.words[0] = promise ? 1 : 0
    sender.val.len = 4
    expect(sysSetsockopt(sender, tx, SOL_TLS, TLS_TX_ZEROCOPY_RO, sender.val)).toBe(0)
    const content = Uint8Array.from({ length: 30_000 }, (_, i) => (i * 7) & 0xff)
    const file = sysOpenFile(sender, O_RDWR, content)
    // What fills the page cache is no copy of a send.
    sysRead(sender, file, content.length)
    sysLseek(sender, file, 0, 0)
    let copied = 0
    kernel.trace.copy = (_cpu, site, bytes) => {
      if (site === '_copy_from_iter') copied += bytes
    }
    expect(sysSendfile(sender, tx, file, null, content.length)).toBe(content.length)
    kernel.trace.copy = null
    // The CPU's cipher reads the pages where they are; a card's driver copies what somebody might write to.
    expect(copied).toBe(offload && !promise ? content.length : 0)
    const parts: Uint8Array[] = []
    for (let i = 0, read = 0; i < 50 && read < content.length; i += 1) {
      kernel.passTime(1e9)
      const got = sysRecvmsg(receiver, rx, ROOM, { wantControl: true })
      if (got <= 0) continue
      parts.push(userRead(kernel.mem, receiver.buffer('recv', ROOM), 0, got))
      read += got
    }
    expect(Buffer.concat(parts).equals(content)).toBe(true)
    sysClose(sender, file)
    close(machine, tx, rx)
  })

  it('the n-th allocation fails, for every n: the CPU takes over or the send takes less, and nothing leaks', () => {
    for (let n = 1, calls = n; n <= calls; n += 1) {
      const machine = rig(profile, 0, true)
      const { kernel, sender, receiver } = machine
      const [tx, rx] = connect(machine, 'x', false)
      const data = new Uint8Array(20_000).fill(n)
      sender.buffer('send', ROOM)
      kernel.mem.fault = failNth(n)
      const keyed = setKey(sender, tx, TLS_TX)
      let sent = keyed === 0 ? Math.max(0, write(sender, tx, data)) : 0
      calls = kernel.mem.fault.calls
      kernel.mem.fault = null
      auditKernel(kernel)
      // A key that could not be set for want of memory can be set now; what was not taken can be sent.
      if (keyed !== 0) expect(setKey(sender, tx, TLS_TX)).toBe(0)
      for (let i = 0, read = 0; i < 100 && read < data.length; i += 1) {
        if (sent < data.length) sent += Math.max(0, write(sender, tx, data.subarray(sent)))
        kernel.passTime(1e9)
        const got = sysRecvmsg(receiver, rx, ROOM, { wantControl: true })
        expect(got).not.toBe(-ERRNO.EBADMSG)
        read += Math.max(0, got)
        if (read >= data.length) expect(read).toBe(data.length)
      }
      close(machine, tx, rx)
    }
  })

  it('a page that is written to after it was lent reaches the peer changed, but as a record that opens', () => {
    const machine = rig(profile, 0, true)
    const { kernel, sender, receiver } = machine
    const [tx, rx] = connect(machine, 'x')
    sender.val.words[0] = 1
    sender.val.len = 4
    sysSetsockopt(sender, tx, SOL_TLS, TLS_TX_ZEROCOPY_RO, sender.val)
    const file = sysOpenFile(sender, O_RDWR, new Uint8Array(100).fill(0x61))
    // Held back by the cork, so that the card reads later than the call returns.
    setInt(sender, tx, SOL_TCP, TCP_OPTIONS.TCP_CORK, 1)
    expect(sysSendfile(sender, tx, file, null, 100)).toBe(100)
    sysLseek(sender, file, 0, 0)
    userWrite(kernel.mem, sender.buffer('send', 100), 0, new Uint8Array(100).fill(0x62))
    expect(sysWrite(sender, file, 100)).toBe(100)
    setInt(sender, tx, SOL_TCP, TCP_OPTIONS.TCP_CORK, 0)
    kernel.passTime(1e9)
    expect(sysRecvmsg(receiver, rx, ROOM)).toBe(100)
    expect(userRead(kernel.mem, receiver.buffer('recv', ROOM), 0, 1)[0]).toBe(0x62)
    sysClose(sender, file)
    close(machine, tx, rx)
  })
})
