import { kernelProfile } from '@netmem/base'
import { AF_INET, AF_PACKET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { bootKernel } from '../boot.js'
import type { Kernel } from '../kernel.js'
import { loopback } from '../player/calls.js'
import {
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysListen,
  sysSendmsg,
  sysSocket,
  sysSocketpair,
} from '../syscalls.js'
import { ssSkmem } from './ss.js'

const boot = (): Kernel => bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 64 << 20 })
const linesOf = (kernel: Kernel, path: string): string[] => kernel.procfs.read(path)!.trimEnd().split('\n').slice(1)

describe('/proc/net/tcp', () => {
  it('shows a listener with its queue, a connection with its bytes, and what waits after the end', () => {
    const kernel = boot()
    const process = kernel.spawn()
    const tcp = (): number => sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    const listener = tcp()
    sysBind(process, listener, loopback(false, 5000))
    sysListen(process, listener, 4)
    const client = tcp()
    sysConnect(process, client, loopback(false, 5000))
    expect(linesOf(kernel, '/proc/net/tcp')[0]).toMatch(
      /^ {3}0: 0100007F:1388 00000000:0000 0A 00000000:00000001 00:0{8} /,
    )
    const server = sysAccept(process, listener, SOCK_NONBLOCK)
    sysSendmsg(process, client, 1000)
    const [, ...connections] = linesOf(kernel, '/proc/net/tcp')
    expect(connections).toHaveLength(2)
    expect(connections.filter((line) => / 01 00000000:000003E8 /.test(line))).toHaveLength(1)
    expect(connections.filter((line) => /:1388 01 [0-9A-F]{8}:00000000 /.test(line))).toHaveLength(1)
    sysClose(process, client)
    sysClose(process, server)
    kernel.passTime(1e9)
    const text = kernel.procfs.read('/proc/net/tcp')!
    // Unread data: the one who closes with it resets the connection, and nothing waits.
    expect(text.split('\n')).toHaveLength(3)
    expect(kernel.procfs.read('/proc/net/sockstat')).toContain('TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0')
  })

  it('shows a time-wait sock with the time that it still has', () => {
    const kernel = boot()
    const process = kernel.spawn()
    const tcp = (): number => sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    const listener = tcp()
    sysBind(process, listener, loopback(false, 5000))
    sysListen(process, listener, 4)
    const client = tcp()
    sysConnect(process, client, loopback(false, 5000))
    const server = sysAccept(process, listener, SOCK_NONBLOCK)
    sysClose(process, client)
    sysClose(process, server)
    kernel.passTime(1e9)
    const waiting = linesOf(kernel, '/proc/net/tcp').filter((line) => / 06 /.test(line))
    expect(waiting).toHaveLength(1)
    // A little over 59 of 60 seconds, in hundredths; the wheel rounds up.
    expect(waiting[0]).toMatch(/ 06 00000000:00000000 03:000017[0-9A-F]{2} 00000000 {5}0 {8}0 0 3 [0-9a-f]{16} *$/)
  })
})

describe('/proc/net/unix, raw, packet and ptype', () => {
  it('show one line per socket, and the taps that packet sockets are', () => {
    const kernel = boot()
    const process = kernel.spawn()
    sysSocketpair(process, AF_UNIX, SOCK_STREAM, 0, new Int32Array(2))
    for (const line of linesOf(kernel, '/proc/net/unix'))
      expect(line).toMatch(/^[0-9a-f]{16}: 0000000[23] 00000000 00000000 0001 03 +\d+$/)
    sysSocket(process, AF_INET, SOCK_RAW, 1)
    expect(linesOf(kernel, '/proc/net/raw')).toEqual([
      expect.stringMatching(/^ {3}1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000 /),
    ])
    expect(linesOf(kernel, '/proc/net/packet')).toEqual([])
    sysSocket(process, AF_PACKET, SOCK_DGRAM, 0x0300)
    expect(linesOf(kernel, '/proc/net/packet')).toEqual([
      expect.stringMatching(/^[0-9a-f]{16} 2 {6}2 {4}0003 {3}0 {5}1 0 {6}0 {6}\d+ *$/),
    ])
    const taps = linesOf(kernel, '/proc/net/ptype')
    expect(taps[0]).toBe('ALL           packet_rcv')
    expect(taps).toContain('0800          ip_rcv')
    expect(taps).toContain('86dd          ipv6_rcv')
  })
})

describe('ss', () => {
  it('prints the nine numbers of a socket with its letters', () => {
    const kernel = boot()
    const process = kernel.spawn()
    const rx = sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    sysBind(process, rx, loopback(false, 5000))
    const tx = sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    sysSendmsg(process, tx, 1, { to: loopback(false, 5000) })
    const sk = kernel.socks.socks.find((one) => one != null && one.num === 5000)!
    expect(ssSkmem(sk)).toBe('skmem:(r832,rb212992,t0,tb212992,f3264,w0,o0,bl0,d0)')
  })
})

describe('memory groups', () => {
  it('have the files of their hierarchy', () => {
    for (const v2 of [false, true]) {
      const kernel = boot()
      const { memcgs } = kernel.socks
      const group = memcgs.create(null, v2)
      if (!v2) memcgs.setTcpLimit(group, 25)
      const root = v2 ? '/sys/fs/cgroup/group1' : '/sys/fs/cgroup/memory/group1'
      const file = v2 ? 'memory.max' : 'memory.kmem.tcp.limit_in_bytes'
      expect(kernel.procfs.read(`${root}/${file}`)).toBe(v2 ? 'max\n' : '102400\n')
      expect(kernel.procfs.read(`${root}/${v2 ? 'memory.stat' : 'memory.kmem.tcp.usage_in_bytes'}`)).toMatch(
        v2 ? /^sock 0$/m : /^0\n$/,
      )
    }
  })
})

describe('/proc/sys in a namespace that is not the first', () => {
  it("has what is the namespace's own, the four buffer sizes for reading only, and nothing else of the machine", () => {
    const kernel = boot()
    const net = kernel.links.netCreate()
    const { procfs } = kernel
    expect(procfs.write('/proc/sys/net/ipv4/tcp_rmem', '1 2 3', net)).toBe(0)
    expect(procfs.read('/proc/sys/net/ipv4/tcp_rmem')).toBe('4096\t131072\t33554432\n')
    expect(procfs.write('/proc/sys/net/core/rmem_max', '5000', net)).toBe(-13)
    expect(procfs.write('/proc/sys/net/core/netdev_budget', '5', net)).toBe(-2)
    expect(procfs.paths(net)).not.toContain('/proc/sys/net/core/netdev_budget')
    expect(procfs.paths(net)).toContain('/proc/sys/net/core/rmem_max')
    expect(procfs.write('/proc/net/tcp', 'x')).toBe(-13)
    // A new namespace begins with the buffer sizes of the first.
    procfs.write('/proc/sys/net/ipv4/tcp_wmem', '4096 20000 30000')
    expect(procfs.read('/proc/sys/net/ipv4/tcp_wmem', kernel.links.netCreate())).toBe('4096\t20000\t30000\n')
  })
})
