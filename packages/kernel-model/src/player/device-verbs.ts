/** Verbs that make and set devices, feed them frames and read their counters. */
import { netdevNlPagePoolGet } from '@netmem/page-pool'
import { mibIndexOrNone } from '@netmem/sockmem'
import { devStatistics } from '@netmem/virtual-nic'
import type { Json, JsonObject } from '../trace/json.js'
import { type Answer, ringErrnoName, StepError } from './answer.js'
import { takeEvents } from './event-watch.js'
import { buildFrame } from './frames.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld, TraceDevice } from './world.js'
import { redirectProgram } from './xdp-world.js'

const MACS = ['02:00:00:00:00:0a', '02:00:00:00:00:0b'] as const
const STRANGER = { ip: '10.0.0.9', mac: '02:00:00:00:00:99' } as const

const KEPT_STATS = [
  'rx_packets',
  'rx_bytes',
  'rx_errors',
  'rx_dropped',
  'rx_frame_errors',
  'rx_nohandler',
  'tx_packets',
  'tx_bytes',
  'tx_errors',
  'tx_dropped',
] as const

/** The answer of one call: `ret`, or `errno` as these traces name it. */
export const ringAnswer = (ret: number): Answer => (ret < 0 ? { errno: ringErrnoName(ret) } : { ret })
export const ringZero = (ret: number): Answer => (ret < 0 ? { errno: ringErrnoName(ret) } : { ret: 0 })

/** A verb with a count: one call answers itself, several answer how many succeeded. */
export function countedAnswer(args: JsonObject, call: () => number): Answer {
  const count = (args.count as number | undefined) ?? 1
  if (count === 1) return ringAnswer(call())
  let ok = 0
  const errors: { [errno: string]: number } = {}
  for (let i = 0; i < count; i++) {
    const ret = call()
    if (ret >= 0) ok += 1
    else errors[ringErrnoName(ret)] = (errors[ringErrnoName(ret)] ?? 0) + 1
  }
  return Object.keys(errors).length === 0 ? { ok } : { ok, errors }
}

/** @returns the modelled device behind a trace's name. */
export const netDeviceOf = (world: PlayerWorld, name: string) => {
  const device = world.device(name)
  return world.kernel.links.device(device.net, device.name)
}

function makeVeth(world: PlayerWorld, args: JsonObject): Answer {
  const { kernel } = world
  const names = [(args.a as string | undefined) ?? 'v0', (args.b as string | undefined) ?? 'v1'] as const
  const nets = [
    world.net((args.a_ns as string | undefined) ?? 'A'),
    world.net((args.b_ns as string | undefined) ?? 'A'),
  ] as const
  const mtu = (args.mtu as number | undefined) ?? 1500
  const withAddress = args.addr !== false
  kernel.links.vethCreate({ net: nets[0], name: names[0] }, { net: nets[1], name: names[1] })
  for (const i of [0, 1] as const) {
    const dev = kernel.links.device(nets[i], names[i])
    const ip = `10.0.0.${i + 1}`
    kernel.links.configure(dev, { mac: MACS[i], mtu, ...(withAddress ? { ip, prefix: 24 } : {}) })
    kernel.links.setUp(dev, true)
    if (withAddress) {
      kernel.links.neighbour(dev, `10.0.0.${2 - i}`, MACS[1 - i]!)
      kernel.links.neighbour(dev, STRANGER.ip, STRANGER.mac)
    }
    const device: TraceDevice = { net: nets[i], name: names[i], mac: MACS[i], ip, ethernet: true, peer: names[1 - i]! }
    world.devices.set(names[i], device)
  }
  return { ret: 0 }
}

export const deviceHandlers: VerbHandlers = {
  netns: (world, args) => {
    const net = world.kernel.links.netCreate()
    world.ipv6Off(net)
    world.nets.set(args.id as string, net)
    return { ret: 0 }
  },

  lo_up: (world, args) => {
    const ns = (args.ns as string | undefined) ?? 'A'
    const net = world.net(ns)
    world.kernel.links.loUp(net)
    const device: TraceDevice = {
      net,
      name: 'lo',
      mac: '00:00:00:00:00:00',
      ip: '127.0.0.1',
      ethernet: true,
      peer: null,
    }
    world.devices.set(ns === 'A' ? 'lo' : `lo@${ns}`, device)
    return { ret: 0 }
  },

  veth: makeVeth,

  offload: (world, args) =>
    ringZero(
      world.kernel.links.setFeature(
        netDeviceOf(world, args.dev as string),
        args.feature as string,
        Boolean(args.value),
      ),
    ),

  mtu: (world, args) => ringZero(world.kernel.links.setMtu(netDeviceOf(world, args.dev as string), args.mtu as number)),

  link: (world, args) => ringZero(world.kernel.links.setUp(netDeviceOf(world, args.dev as string), Boolean(args.up))),

  dev_stats: (world, args) => {
    const stats = devStatistics(netDeviceOf(world, args.dev as string))
    return Object.fromEntries(KEPT_STATS.map((name) => [name, stats[name]]))
  },

  snmp: (world, args) => {
    const net = world.net((args.ns as string | undefined) ?? 'A')
    const answer: Answer = {}
    for (const key of args.keys as readonly string[]) {
      const index = mibIndexOrNone(key.replace(/^(Ip|Udp|Icmp)/, '$1.'))
      if (index < 0) throw new StepError(`no counter "${key}"; they are a table and a column, as UdpInErrors`)
      answer[key] = net.ns.mib[index]!
    }
    return answer
  },

  softnet: (world) => ({ dropped: world.kernel.devs.softnet[0]!.dropped }),

  drops: (world) => ({ reasons: takeEvents(world).reasons }),

  page_pool_events: (world) => ({ pools: takeEvents(world).pools as unknown as Json }),

  xdp_live: (world, args) => {
    const { kernel, process } = world
    const run = {
      len: args.len as number,
      repeat: args.repeat as number,
      batch: (args.batch as number | undefined) ?? 0,
    }
    return ringZero(kernel.links.xdpTestRun(process, process.net.lo, args.prog as string, run))
  },

  page_pools: (world, args) => {
    const { kernel } = world
    const listed = netdevNlPagePoolGet(kernel.devs.pagePools, netDeviceOf(world, args.dev as string).id)
    if (typeof listed === 'number') return ringZero(listed)
    return { pools: listed.map((pool) => ({ inflight: pool.inflight, inflight_mem: pool['inflight-mem'] })) }
  },

  sleep: (world, args) => {
    world.kernel.passTime((args.ms as number) * 1e6)
    return { ret: 0 }
  },

  inject: (world, args) => {
    const device = world.device(args.dev as string)
    const to = device.peer === null ? device : world.device(device.peer)
    const frame = buildFrame(args.frame as JsonObject, { mac: to.mac, ip: to.ip, ethernet: true })
    const dev = world.kernel.links.device(device.net, device.name)
    return countedAnswer(args, () => world.kernel.links.inject(world.process, dev, frame))
  },

  xdp_attach: (world, args) => {
    const action = args.prog as string
    const native = args.mode === 'native'
    const dev = netDeviceOf(world, args.dev as string)
    if (action.startsWith('redirect')) {
      const program = redirectProgram(world, action, args.map, args.frags === true)
      return ringZero(world.kernel.links.xdpAttachProgram(dev, program, native))
    }
    return ringZero(world.kernel.links.xdpAttach(dev, { action, native, frags: args.frags === true }))
  },

  xdp_detach: (world, args) => ringZero(world.kernel.links.xdpDetach(netDeviceOf(world, args.dev as string))),
}
