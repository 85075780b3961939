import { kernelProfile } from '@netmem/base'
import { AF_INET, SOCK_DGRAM } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { bootKernel } from '../boot.js'
import type { Kernel } from '../kernel.js'
import { loopback } from '../player/calls.js'
import { SOCK_NONBLOCK, sysBind, sysSendmsg, sysSocket } from '../syscalls.js'
import { procFiles, procRead } from './files.js'
import { modelHost } from './host.js'
import { monitorNetworkMemory, tuneNetworkMemory } from './scripts.js'

function machine(name = 'linux-6.18-x86_64'): { kernel: Kernel; read: (path: string) => string } {
  const kernel = bootKernel({ profile: kernelProfile(name), memoryBytes: 64 << 20 })
  return { kernel, read: (path) => procRead(kernel, kernel.initNet, path) ?? 'no such file' }
}

/** A receiver with `count` datagrams of 1 byte waiting. */
function traffic(kernel: Kernel, count: number): void {
  const process = kernel.spawn()
  const rx = sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
  sysBind(process, rx, loopback(false, 5000))
  const tx = sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
  for (let i = 0; i < count; i++) sysSendmsg(process, tx, 1, { to: loopback(false, 5000) })
}

const lineOf = (text: string, start: string): string => text.split('\n').find((line) => line.startsWith(start)) ?? ''

describe('/proc/net/sockstat', () => {
  it('counts sockets of the namespace and pages of the machine', () => {
    const { kernel, read } = machine()
    traffic(kernel, 200)
    expect(read('/proc/net/sockstat')).toBe(
      [
        'sockets: used 2',
        'TCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0',
        // 200 datagrams of 832 bytes are 41 pages: all of them in this CPU's reserve, which nobody sees.
        'UDP: inuse 2 mem 0',
        'UDPLITE: inuse 0',
        'RAW: inuse 0',
        'FRAG: inuse 0 memory 0',
        '',
      ].join('\n'),
    )
    expect(lineOf(read('/proc/net/sockstat6'), 'UDP6')).toBe('UDP6: inuse 0')
  })
})

describe('/proc/net/protocols', () => {
  it('has a line per protocol with its size, its pages and whether it can be under pressure', () => {
    const { kernel, read } = machine()
    traffic(kernel, 0)
    const text = read('/proc/net/protocols')
    expect(text.split('\n')[0]).toBe(
      'protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br ha uh gp em',
    )
    expect(lineOf(text, 'UDP ')).toBe(
      'UDP       1344      2       0   NI       0   yes  kernel      y  y  y  n  y  y  y  n  y  y  y  y  n  n  y  y  y  n',
    )
    expect(lineOf(text, 'RAW ')).toMatch(
      / {2}y {2}y {2}y {2}n {2}y {2}y {2}y {2}n {2}y {2}y {2}y {2}y {2}y {2}y {2}y {2}y {2}n {2}n$/,
    )
    expect(lineOf(text, 'UNIX ')).toMatch(/-1 {3}NI {7}0 {3}yes {2}kernel {6}y( {2}n){17}$/)
    expect(lineOf(text, 'TCP ')).toMatch(/^TCP {7}2304 {6}0 {7}0 {3}no {5}192 {3}yes {2}kernel/)
  })

  it('shows sendpage where the kernel has it', () => {
    expect(machine('linux-6.1-x86_64').read('/proc/net/protocols').split('\n')[0]).toContain('gs se re sp bi br')
  })
})

describe('the counters of /proc/net', () => {
  it('are a line of names and a line of numbers per group', () => {
    const { kernel, read } = machine()
    traffic(kernel, 300)
    const [names, numbers] = read('/proc/net/snmp')
      .split('\n')
      .filter((line) => line.startsWith('Udp:'))
      .map((line) => line.split(' ').slice(1)) as [string[], string[]]
    const udp = Object.fromEntries(names.map((name, i) => [name, Number(numbers[i])]))
    // 256 datagrams of 832 bytes fit 212992.
    expect(udp).toMatchObject({ OutDatagrams: 300, InDatagrams: 0, RcvbufErrors: 44, InErrors: 44 })
    expect(read('/proc/net/netstat')).toMatch(/^TcpExt: SyncookiesSent .*\nTcpExt: 0 /)
    expect(read('/proc/net/snmp')).toMatch(/^Ip: Forwarding DefaultTTL /)
  })

  it('of softnet are fifteen fields of eight hexadecimal digits per CPU, thirteen on 6.1', () => {
    const { kernel, read } = machine()
    traffic(kernel, 26)
    const lines = read('/proc/net/softnet_stat').trimEnd().split('\n')
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(/^0000001a( [0-9a-f]{8}){14}$/)
    expect(machine('linux-6.1-x86_64').read('/proc/net/softnet_stat').split('\n')[0]).toMatch(/^([0-9a-f]{8} ?){13}$/)
  })

  it('of devices stand under their columns', () => {
    const { kernel, read } = machine()
    traffic(kernel, 2)
    expect(lineOf(read('/proc/net/dev'), '    lo')).toBe(
      '    lo:      58       2    0    0    0     0          0         0       58       2    0    0    0     0       0          0',
    )
    expect(read('/sys/class/net/lo/statistics/rx_packets')).toBe('2\n')
    expect(read('/sys/class/net/eth9/statistics/rx_packets')).toBe('no such file')
  })
})

describe('/proc/slabinfo, buddyinfo and meminfo', () => {
  it('list the caches of packets with their geometry', () => {
    const { kernel, read } = machine()
    traffic(kernel, 20)
    const head = lineOf(read('/proc/slabinfo'), 'skbuff_head_cache')
    expect(head).toMatch(/^skbuff_head_cache +\d+ +\d+ +256 +16 +1 : tunables +0 +0 +0 : slabdata +\d+ +\d+ +0$/)
    expect(read('/proc/buddyinfo')).toMatch(/^Node 0, zone +DMA( +\d+){11} $/m)
    expect(read('/proc/meminfo')).toMatch(/^MemTotal: +\d+ kB\nMemFree: +\d+ kB\n/)
  })
})

describe('files', () => {
  it('of /proc/sys are read by path', () => {
    const { read } = machine()
    expect(read('/proc/sys/net/ipv4/tcp_rmem')).toBe('4096\t131072\t33554432\n')
    expect(read('/proc/sys/net/no_such_thing')).toBe('no such file')
    for (const path of procFiles()) expect(read(path), path).toMatch(/\n$/)
  })
})

describe('the scripts that are passed around', () => {
  it('write what they write, and the kernel makes of it what it makes', () => {
    const { kernel } = machine()
    const results = Object.fromEntries(tuneNetworkMemory(modelHost(kernel)).map((entry) => [entry.name, entry]))
    expect(Object.values(results).every((entry) => entry.result === '0')).toBe(true)
    expect(results['net.ipv4.udp_rmem_min']!.value).toBe('8192')
    expect(results['net.ipv4.udp_mem']!.value).toBe('16777216\t767734\t1151598')
    expect(results['net.core.netdev_budget']!.value).toBe('600')
    // The device layer obeys at once.
    expect(kernel.devs.sysctl.netdevBudget).toBe(600)
    expect(kernel.devs.sysctl.maxBacklog).toBe(5000)
  })

  it('print what the network holds, one round at a time', () => {
    const { kernel } = machine()
    traffic(kernel, 1)
    const text = monitorNetworkMemory(modelHost(kernel))
    expect(text).toContain('=== Socket memory ===\nsockets: used 2\n')
    expect(text).toContain('skbuff_small_head')
    expect(text).toContain(
      '=== Page pools ===\n=== Device counters ===\nlo: rx_dropped 0 tx_dropped 0 rx_fifo_errors 0\n',
    )
  })
})
