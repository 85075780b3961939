/** Operations of allocation traces that make, set and feed devices. */

import { ipv4Bytes } from '../ipv4.js'
import type { Operation } from './alloc-operations.js'
import { StepError, UnsupportedVerb } from './answer.js'
import { internetChecksum } from './frames.js'
import type { PlayerWorld } from './world.js'

const TAP = { name: 'tap0', mac: '02:00:00:00:00:01', ip: '10.0.0.1' } as const
const TAP_PEER = { mac: '02:00:00:00:00:02', ip: '10.0.0.2' } as const

/** The frame that `tap_write` sends: `bytes` in all, IPv4 and UDP without a checksum, payload of `x`. */
export function tapFrame(bytes: number, dport: number): Uint8Array {
  const frame = new Uint8Array(Math.max(bytes, 42)).fill(0x78, 42)
  const mac = (at: number, text: string): void => {
    text.split(':').forEach((part, i) => {
      frame[at + i] = Number.parseInt(part, 16)
    })
  }
  const u16 = (at: number, value: number): void => {
    frame[at] = value >> 8
    frame[at + 1] = value & 0xff
  }
  mac(0, TAP.mac)
  mac(6, TAP_PEER.mac)
  u16(12, 0x0800)
  frame[14] = 0x45
  u16(16, bytes - 14)
  u16(20, 0x4000)
  frame[22] = 64
  frame[23] = 17
  frame.set(ipv4Bytes(TAP_PEER.ip), 26)
  frame.set(ipv4Bytes(TAP.ip), 30)
  u16(24, internetChecksum(frame, 14, 34))
  u16(34, 6000)
  u16(36, dport)
  u16(38, bytes - 34)
  return frame
}

function makeVeth(world: PlayerWorld): number {
  const { kernel } = world
  const a = world.net('a')
  const b = kernel.links.netCreate()
  world.nets.set('b', b)
  kernel.links.loUp(b)
  kernel.links.vethCreate({ net: a, name: 'va' }, { net: b, name: 'vb' })
  const ends = [
    { net: a, name: 'va', mac: '02:00:00:00:00:0a', ip: '10.0.1.1', peerIp: '10.0.1.2', peerMac: '02:00:00:00:00:0b' },
    { net: b, name: 'vb', mac: '02:00:00:00:00:0b', ip: '10.0.1.2', peerIp: '10.0.1.1', peerMac: '02:00:00:00:00:0a' },
  ]
  for (const end of ends) {
    const dev = kernel.links.device(end.net, end.name)
    kernel.links.configure(dev, { mac: end.mac, ip: end.ip, prefix: 24 })
    kernel.links.setUp(dev, true)
    kernel.links.neighbour(dev, end.peerIp, end.peerMac)
  }
  return 0
}

export const allocDeviceOperations: Readonly<Record<string, Operation>> = {
  mtu: (world, op) =>
    world.kernel.links.setMtu(world.kernel.links.device(world.process.net, op.dev as string), op.mtu as number),

  ethtool: (world, op) => {
    const net = world.net((op.ns as string | undefined) ?? 'a')
    return world.kernel.links.setFeature(
      world.kernel.links.device(net, op.dev as string),
      op.feature as string,
      Boolean(op.value),
    )
  },

  veth: makeVeth,

  tap: (world, op) => {
    const mode = op.mode as string
    const flags = ['IFF_TAP', 'IFF_NO_PI', ...(mode === 'plain' ? [] : ['IFF_NAPI'])]
    if (mode === 'napi_frags') flags.push('IFF_NAPI_FRAGS')
    const { kernel, process } = world
    const fd = kernel.links.tun.open(process, { name: TAP.name, flags })
    if (fd < 0) return fd
    world.fds.set(op.id as string, fd)
    const dev = kernel.links.device(process.net, TAP.name)
    kernel.links.configure(dev, {
      mac: TAP.mac,
      ip: TAP.ip,
      prefix: 24,
      ...(op.mtu === undefined ? {} : { mtu: op.mtu as number }),
    })
    kernel.links.setUp(dev, true)
    kernel.links.neighbour(dev, TAP_PEER.ip, TAP_PEER.mac)
    if (op.sndbuf !== undefined) kernel.links.tun.setSndbuf(process, fd, op.sndbuf as number)
    return 0
  },

  tap_write: (world, op) => {
    if (op.frame !== undefined) throw new UnsupportedVerb(`frame "${op.frame}"`)
    const frame = tapFrame(op.len as number, (op.port as number | undefined) ?? 5000)
    return world.kernel.links.tun.write(
      world.process,
      world.fd(op.id as string),
      frame,
      (op.iov as number[] | undefined) ?? null,
    )
  },

  tap_read: (world, op) => world.kernel.links.tun.read(world.process, world.fd(op.id as string), op.len as number),

  xdp: (world, op) => {
    const net = world.net((op.ns as string | undefined) ?? 'a')
    const dev = world.kernel.links.device(net, op.dev as string)
    if (dev === undefined) throw new StepError(`there is no device "${op.dev}"`)
    return world.kernel.links.xdpAttach(dev, {
      action: op.action as string,
      native: op.mode === 'native',
      frags: false,
    })
  },
}
