import { ERRNO, errnoName, kernelProfile, kernelProfiles } from '@netmem/base'
import { failNth } from '@netmem/memory'
import {
  AF_INET,
  AF_UNIX,
  EPOLLIN,
  EPOLLOUT,
  SIOCINQ,
  SIOCOUTQ,
  SO,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  type SockAddr,
} from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { bootKernel } from './boot.js'
import type { Kernel } from './kernel.js'
import { Calls, KernelError } from './kernel-error.js'
import { ipv4Address, loopback } from './player/calls.js'
import type { Process } from './process.js'
import {
  SOCK_NONBLOCK,
  sysBind,
  sysClose,
  sysConnect,
  sysIoctl,
  sysPoll,
  sysRead,
  sysRecvmsg,
  sysSendmsg,
  sysSocket,
  sysSocketpair,
  sysWrite,
} from './syscalls.js'
import { assertQuiescent, auditKernel, trackSteps } from './testing.js'

const boot = (name = 'linux-6.18-x86_64'): Kernel => bootKernel({ profile: kernelProfile(name), memoryBytes: 64 << 20 })
const udp = (process: Process, port?: number): number => {
  const fd = sysSocket(process, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
  if (fd >= 0 && port !== undefined) expect(sysBind(process, fd, loopback(false, port))).toBe(0)
  return fd
}

describe('two kernels in one process', () => {
  it('share nothing', () => {
    const a = boot()
    const b = boot('linux-6.1-x86_64')
    expect(a.sysctlWrite(a.initNet, 'net.core.rmem_max', '9999')).toBe(0)
    expect(b.sysctlRead(b.initNet, 'net.core.rmem_max')).toBe('212992')
    const process = a.spawn()
    const rx = udp(process, 4000)
    const tx = udp(process)
    sysSendmsg(process, tx, 10, { to: loopback(false, 4000) })
    expect(a.initNet.ns.counter('Udp.OutDatagrams')).toBe(1)
    expect(b.initNet.ns.counter('Udp.OutDatagrams')).toBe(0)
    expect(b.processes).toHaveLength(0)
    expect(sysRecvmsg(process, rx, 100)).toBe(10)
  })

  it('give the same answers, to the byte of memory, from the same parameters', () => {
    const run = (): { answers: number[]; digest: number; now: number } => {
      const kernel = boot()
      const process = kernel.spawn()
      const rx = udp(process, 4000)
      const tx = udp(process)
      const answers: number[] = []
      for (let n = 0; n < 3000; n += 7) answers.push(sysSendmsg(process, tx, n, { to: loopback(false, 4000) }))
      while (answers.push(sysRecvmsg(process, rx, 4096)) && answers.at(-1)! >= 0);
      let digest = 0
      for (const word of kernel.mem.i32) digest = (Math.imul(digest, 31) + word) | 0
      return { answers, digest, now: kernel.clock.nowNs }
    }
    expect(run()).toEqual(run())
  })
})

describe('bootKernel', () => {
  it('sets sysctls as written, and says which one this kernel refuses', () => {
    const profile = kernelProfiles['linux-6.18-x86_64']
    const kernel = bootKernel({ profile, memoryBytes: 64 << 20, sysctl: { 'net.core.rmem_default': '4096' } })
    expect(kernel.sysctlRead(kernel.initNet, 'net.core.rmem_default')).toBe('4096')
    expect(() => bootKernel({ profile, memoryBytes: 64 << 20, sysctl: { 'net.core.rmem_default': '1' } })).toThrow(
      'sysctl net.core.rmem_default = "1"',
    )
  })

  it('works the limits out from memory when asked to', () => {
    const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 256 << 20, limits: 'memory' })
    const [low, pressure, high] = kernel.sysctlRead(kernel.initNet, 'net.ipv4.udp_mem')!.split('\t').map(Number)
    expect(pressure).toBeLessThan(65536 / 8)
    expect(pressure).toBeGreaterThan(65536 / 8 / 1.2)
    expect(low).toBe(Math.floor(pressure! / 4) * 3)
    expect(high).toBe(low! * 2)
    // A machine this small gets less than the kernel's bound for one socket.
    expect(kernel.sysctlRead(kernel.initNet, 'net.ipv4.tcp_rmem')).toMatch(/^4096\t131072\t[12]\d{6}$/)
  })
})

describe('system calls', () => {
  it('answer as the kernel does for descriptors that are wrong', () => {
    const process = boot().spawn()
    expect(sysSendmsg(process, 7, 1)).toBe(-ERRNO.EBADF)
    expect(sysClose(process, 7)).toBe(-ERRNO.EBADF)
    expect(sysSocket(process, 99, SOCK_DGRAM)).toBe(-ERRNO.EAFNOSUPPORT)
    expect(sysSocket(process, AF_INET, 77)).toBeLessThan(0)
  })

  it('give the lowest free descriptor, and EMFILE at the limit', () => {
    const process = boot().spawn()
    expect([udp(process), udp(process), udp(process)]).toEqual([0, 1, 2])
    sysClose(process, 1)
    expect(udp(process)).toBe(1)
    process.files.limit = 3
    expect(udp(process)).toBe(-ERRNO.EMFILE)
    auditKernel(process.kernel)
  })

  it('move bytes over a socket pair by read and write, and say what waits', () => {
    const process = boot().spawn()
    const pair = new Int32Array(2)
    expect(sysSocketpair(process, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)).toBe(0)
    const [a, b] = pair as unknown as [number, number]
    expect(sysPoll(process, b) & (EPOLLIN | EPOLLOUT)).toBe(EPOLLOUT)
    expect(sysWrite(process, a, 1000)).toBe(1000)
    expect(sysIoctl(process, b, SIOCINQ)).toBe(1000)
    expect(sysIoctl(process, a, SIOCOUTQ)).toBeGreaterThan(1000)
    expect(sysPoll(process, b) & EPOLLIN).toBe(EPOLLIN)
    expect(sysRead(process, b, 4096)).toBe(1000)
    expect(sysRead(process, b, 4096)).toBe(-ERRNO.EAGAIN)
  })

  it('throw KernelError with errno and call for those who prefer exceptions', () => {
    const calls = new Calls(boot().spawn())
    const fd = calls.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    const failure = (run: () => unknown): KernelError => {
      try {
        run()
      } catch (error) {
        if (error instanceof KernelError) return error
      }
      throw new Error('no KernelError')
    }
    const error = failure(() => calls.recv(fd, 10))
    expect([error.errno, error.call]).toEqual(['EAGAIN', 'recvmsg'])
    expect(error.message).toBe('recvmsg: EAGAIN')
    expect(failure(() => calls.send(fd, 70000, { to: loopback(false, 1) })).errno).toBe('EMSGSIZE')
    expect(failure(() => calls.setsockopt(fd, SOL_SOCKET, 9999, 1)).call).toBe('setsockopt')
    calls.setsockopt(fd, SOL_SOCKET, SO.SO_RCVBUF, 5000)
    expect(calls.getsockopt(fd, SOL_SOCKET, SO.SO_RCVBUF)).toBe(10000)
  })
})

describe('namespaces', () => {
  it('have devices, addresses, ports and counters of their own', () => {
    const kernel = boot()
    const other = kernel.links.netCreate()
    kernel.links.loUp(other)
    const here = kernel.spawn()
    const there = kernel.spawn(kernel.cpus[0], other)
    udp(here, 4000)
    expect(sysSendmsg(there, udp(there), 1, { to: loopback(false, 4000) })).toBe(1)
    expect(other.ns.counter('Udp.NoPorts')).toBe(1)
    expect(kernel.initNet.ns.counter('Udp.NoPorts')).toBe(0)
  })

  it('reach each other over a veth pair', () => {
    const kernel = boot()
    const other = kernel.links.netCreate()
    const ends = [kernel.initNet, other].map((net, i) => ({
      net,
      name: 'eth0',
      ip: `10.0.0.${i + 1}`,
      mac: `02:00:00:00:00:0${i}`,
    }))
    kernel.links.vethCreate(ends[0]!, ends[1]!)
    for (const [i, end] of ends.entries()) {
      const dev = kernel.links.device(end.net, end.name)
      kernel.links.configure(dev, { mac: end.mac, ip: end.ip, prefix: 24 })
      kernel.links.setUp(dev, true)
      kernel.links.neighbour(dev, ends[1 - i]!.ip, ends[1 - i]!.mac)
    }
    const there = kernel.spawn(kernel.cpus[0], other)
    const rx = sysSocket(there, AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
    sysBind(there, rx, ipv4Address('10.0.0.2', 7000))
    const here = kernel.spawn()
    expect(sysSendmsg(here, udp(here), 1234, { to: ipv4Address('10.0.0.2', 7000) })).toBe(1234)
    expect(sysRecvmsg(there, rx, 4096)).toBe(1234)
    auditKernel(kernel)
  })
})

describe('when memory runs out', () => {
  /** A datagram of each kind there and back; answers are errnos where something failed. */
  function exchange(kernel: Kernel, to: SockAddr): void {
    const process = kernel.spawn()
    const rx = udp(process)
    const tx = udp(process)
    if (rx >= 0 && tx >= 0 && sysBind(process, rx, to) === 0) {
      sysConnect(process, tx, to)
      for (const bytes of [1, 1400, 20000]) {
        const sent = sysSendmsg(process, tx, bytes)
        expect(sent === bytes || sent < 0, `sent ${sent}`).toBe(true)
        if (sent < 0) expect(['ENOBUFS', 'ENOMEM', 'EAGAIN', 'EFAULT']).toContain(errnoName(sent))
      }
      for (let i = 0; i < 3; i++) sysRecvmsg(process, rx, 65536)
    }
    const pair = new Int32Array(2)
    if (sysSocketpair(process, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) === 0) {
      sysWrite(process, pair[0]!, 50000)
      sysRead(process, pair[1]!, 50000)
    }
    for (const fd of process.files.open()) sysClose(process, fd)
    kernel.exit(process)
  }

  it.each(Object.keys(kernelProfiles))('the n-th allocation fails on %s and nothing leaks, for every n', (name) => {
    const kernel = boot(name)
    const to = loopback(false, 4321)
    // Once without failures, so that caches and buffers that stay are there.
    exchange(kernel, to)
    trackSteps(kernel)
    let failures = 0
    for (let n = 1; ; n++) {
      // The user's own memory is not what fails here.
      const fault = failNth(n).where((_kind, _bytes, _gfp, site) => site !== 'do_anonymous_page')
      kernel.mem.fault = fault
      exchange(kernel, to)
      kernel.mem.fault = null
      auditKernel(kernel)
      assertQuiescent(kernel)
      if (fault.failed === 0) break
      failures += 1
    }
    expect(failures).toBeGreaterThan(15)
  })
})
