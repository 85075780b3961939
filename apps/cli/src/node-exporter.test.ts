/**
 * A real client of /proc reads the model's: Debian's prometheus-node-exporter. It is taken from the machine, or fetched
 * with apt into a folder of its own; where neither works the test says so and is skipped.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { kernelProfile } from '@netmem/base'
import { bootKernel, Calls, type Kernel, procFiles, SOCK_NONBLOCK, sysConnect } from '@netmem/kernel-model'
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, SockAddr } from '@netmem/sockmem'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const NAME = 'prometheus-node-exporter'
const COLLECTORS = [
  'sockstat',
  'netstat',
  'softnet',
  'netdev',
  'slabinfo',
  'meminfo',
  'udp_queues',
  'vmstat',
  'buddyinfo',
  'pressure',
  'zoneinfo',
  'stat',
  'sysctl',
]
const FLAGS = [
  '--collector.netstat.fields=.*',
  '--no-collector.netdev.netlink',
  // It leaves loopback out unless told otherwise.
  '--collector.netdev.device-exclude=^$',
  '--collector.vmstat.fields=.*',
  '--collector.sysctl.include=net.ipv4.tcp_mem:min,pressure,max',
  '--collector.sysctl.include=net.core.rmem_max',
  '--web.disable-exporter-metrics',
]

const folder = mkdtempSync(join(tmpdir(), 'netmem-exporter-'))
let server: ChildProcess | null = null
let missing = ''
let kernel: Kernel
let samples = new Map<string, number>()

/** @returns the program, or null with the reason in `missing`. */
function findExporter(): string | null {
  for (const dir of (process.env.PATH ?? '').split(':')) if (existsSync(join(dir, NAME))) return join(dir, NAME)
  const quick = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=10', '-o', 'Acquire::https::Timeout=10']
  const apt = spawnSync('apt-get', [...quick, 'download', NAME], { cwd: folder, timeout: 60_000 })
  const archive = readdirSync(folder).find((file) => file.endsWith('.deb'))
  if (archive === undefined) {
    missing = `${NAME} is not installed, and apt-get download does not bring it (${apt.error?.message ?? `exit ${apt.status}`})`
    return null
  }
  spawnSync('dpkg-deb', ['-x', join(folder, archive), join(folder, 'root')], { timeout: 60_000 })
  const program = join(folder, 'root', 'usr', 'bin', NAME)
  if (existsSync(program)) return program
  missing = `${archive} could not be unpacked`
  return null
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })

function address(family: number, port: number): SockAddr {
  const end = new SockAddr()
  end.family = family
  end.addr = 0x7f000001
  if (family === AF_INET6) end.addr6[3] = 1
  end.port = port
  return end
}

/** A machine in the middle of things: full queues, drops, connections, a listener. */
function machine(): Kernel {
  const booted = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 128 << 20, limits: 'memory' })
  const calls = new Calls(booted.spawn())
  for (const [family, port, datagrams] of [
    [AF_INET, 5000, 400],
    [AF_INET6, 5001, 20],
  ] as const) {
    const rx = calls.socket(family, SOCK_DGRAM | SOCK_NONBLOCK)
    calls.bind(rx, address(family, port))
    const tx = calls.socket(family, SOCK_DGRAM | SOCK_NONBLOCK)
    calls.connect(tx, address(family, port))
    for (let i = 0; i < datagrams; i++) calls.send(tx, 100)
  }
  const listener = calls.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  calls.bind(listener, address(AF_INET, 6000))
  calls.listen(listener, 16)
  const client = calls.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  // A connection over loopback is made before the call is over, which says that it is on its way.
  sysConnect(calls.process, client, address(AF_INET, 6000))
  calls.accept(listener)
  calls.send(client, 100_000)
  booted.passTime(1e9)
  return booted
}

/** Prometheus's text format: names with their labels, and numbers. */
function parse(text: string): Map<string, number> {
  const found = new Map<string, number>()
  for (const line of text.split('\n')) {
    const match = /^([^#\s][^{\s]*(?:\{.*\})?) (\S+)$/.exec(line)
    if (match !== null) found.set(match[1]!, Number(match[2]))
  }
  return found
}

async function scrape(port: number): Promise<string> {
  for (let tries = 0; ; tries++) {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`)
      if (answer.ok) return await answer.text()
    } catch (error) {
      if (tries === 100) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

beforeAll(async () => {
  const program = findExporter()
  if (program === null) return
  kernel = machine()
  const proc = join(folder, 'proc')
  kernel.procfs.export((path, text) => {
    if (!path.startsWith('/proc/')) return
    const file = join(proc, path.slice('/proc/'.length))
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  })
  const port = await freePort()
  const args = [
    '--collector.disable-defaults',
    ...COLLECTORS.map((name) => `--collector.${name}`),
    ...FLAGS,
    `--path.procfs=${proc}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ]
  server = spawn(program, args, { stdio: 'ignore' })
  samples = parse(await scrape(port))
}, 180_000)

afterAll(() => {
  server?.kill()
  rmSync(folder, { recursive: true, force: true })
})

/** A test that needs the program. */
const withExporter = (name: string, body: () => void): void =>
  void it(name, (context) => {
    if (server === null) return context.skip(missing)
    body()
  })

const value = (name: string): number => {
  const found = samples.get(name)
  if (found === undefined) throw new Error(`no sample ${name}`)
  return found
}

describe(`${NAME} reads the model's /proc`, () => {
  withExporter('and every collector succeeds', () => {
    for (const name of COLLECTORS) expect(value(`node_scrape_collector_success{collector="${name}"}`), name).toBe(1)
  })

  withExporter('and tells of sockets what the model does', () => {
    const { ns } = kernel.initNet
    expect(value('node_sockstat_sockets_used')).toBe(ns.socketsInuse)
    expect(value('node_sockstat_UDP_inuse')).toBe(2)
    expect(value('node_sockstat_UDP6_inuse')).toBe(2)
    expect(value('node_sockstat_TCP_inuse')).toBe(3)
    expect(value('node_sockstat_TCP_alloc')).toBe(3)
    expect(value('node_sockstat_TCP_mem_bytes')).toBe(kernel.protocolPages('TCP') * 4096)
    expect(value('node_sockstat_UDP_mem')).toBe(kernel.protocolPages('UDP'))
    const waiting = kernel.socks.socks.reduce((sum, sk) => sum + (sk?.proto.name === 'UDP' ? sk.rmemAlloc : 0), 0)
    expect(waiting).toBeGreaterThan(200_000)
    expect(value('node_udp_queues{ip="v4",queue="rx"}')).toBe(waiting)
  })

  withExporter('and every counter of netstat, snmp and snmp6 has its value', () => {
    const { ns } = kernel.initNet
    let compared = 0
    for (const [name, number] of samples) {
      const match = /^node_netstat_([A-Za-z]+6?)_(.+)$/.exec(name)
      if (match === null) continue
      const [, group, counter] = match as unknown as [string, string, string]
      if (/Type\d+$/.test(counter) || ['Forwarding', 'DefaultTTL'].includes(counter)) continue
      if (group === 'Tcp' && ['RtoAlgorithm', 'RtoMin', 'RtoMax', 'MaxConn'].includes(counter)) continue
      expect(number, name).toBe(ns.counter(`${group}.${counter}`))
      compared += 1
    }
    expect(compared).toBeGreaterThan(300)
    expect(value('node_netstat_Udp_RcvbufErrors')).toBeGreaterThan(100)
  })

  withExporter('and so have devices, backlog queues and sysctls', () => {
    const { lo } = kernel.initNet
    expect(value('node_network_receive_packets_total{device="lo"}')).toBe(lo.stats[0])
    expect(value('node_network_transmit_bytes_total{device="lo"}')).toBeGreaterThan(140_000)
    for (const sd of kernel.devs.softnet)
      expect(value(`node_softnet_processed_total{cpu="${sd.cpu.id}"}`)).toBe(sd.processed)
    const [min, pressure, max] = kernel.socks.tcpMem
    expect(value('node_sysctl_net_ipv4_tcp_mem_min')).toBe(min)
    expect(value('node_sysctl_net_ipv4_tcp_mem_pressure')).toBe(pressure)
    expect(value('node_sysctl_net_ipv4_tcp_mem_max')).toBe(max)
    expect(value('node_sysctl_net_core_rmem_max')).toBe(kernel.socks.rmemMax[0])
  })

  withExporter('and memory by cache, order and zone', () => {
    const text = (path: string): string => kernel.procfs.read(path) ?? ''
    for (const line of text('/proc/slabinfo').split('\n').slice(2, -1)) {
      const [name, active, objects, size] = line.split(/ +/) as [string, string, string, string]
      expect(value(`node_slabinfo_active_objects{slab="${name}"}`), name).toBe(Number(active))
      expect(value(`node_slabinfo_objects{slab="${name}"}`), name).toBe(Number(objects))
      expect(value(`node_slabinfo_object_size_bytes{slab="${name}"}`), name).toBe(Number(size))
    }
    for (const line of text('/proc/meminfo').trimEnd().split('\n')) {
      const [name, number, unit] = line.split(/:? +/) as [string, string, string | undefined]
      const sample = `node_memory_${name.replace(/\((.*)\)/, '_$1')}${unit === undefined ? '' : '_bytes'}`
      expect(value(sample), sample).toBe(Number(number) * (unit === undefined ? 1 : 1024))
    }
    for (const line of text('/proc/vmstat').trimEnd().split('\n')) {
      const [name, number] = line.split(' ') as [string, string]
      expect(value(`node_vmstat_${name}`), name).toBe(Number(number))
    }
    for (const line of text('/proc/buddyinfo').trimEnd().split('\n')) {
      const [, zone, counts] = /zone +(\S+) (.*)$/.exec(line) as unknown as [string, string, string]
      for (const [order, blocks] of counts.trim().split(/ +/).entries())
        expect(value(`node_buddyinfo_blocks{node="0",size="${order}",zone="${zone}"}`)).toBe(Number(blocks))
    }
    expect(value('node_zoneinfo_managed_pages{node="0",zone="DMA32"}')).toBeGreaterThan(5_000)
    expect(procFiles()).toContain('/proc/zoneinfo')
  })
})
