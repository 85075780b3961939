import { kernelProfile } from '@netmem/base'
import { failNth, userRead } from '@netmem/memory'
import { AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_STREAM } from '@netmem/sockmem'
import { Loff } from '@netmem/zerocopy'
import { describe, expect, it } from 'vitest'
import { bootKernel } from './boot.js'
import { O_NONBLOCK, O_RDONLY } from './file.js'
import type { Kernel } from './kernel.js'
import { Calls } from './kernel-error.js'
import { loopback } from './player/calls.js'
import type { Process } from './process.js'
import { sysSendfile, sysSplice } from './splice-calls.js'
import { SOCK_NONBLOCK, sysClose, sysRead, sysRecvmsg } from './syscalls.js'
import { assertQuiescent, auditKernel, trackSteps } from './testing.js'
import { sysOpenFile } from './vfs-file.js'

const PROFILES = ['linux-6.18-x86_64', 'linux-6.1-x86_64'] as const

const content = Uint8Array.from({ length: 120_000 }, (_, i) => (i * 31 + (i >> 8)) & 0xff)

interface Setup {
  kernel: Kernel
  process: Process
  calls: Calls
  file: number
  /** What the CPU copied so far, by the kernel function that did it. */
  copies: Map<string, number>
}

function setup(profile: string): Setup {
  const kernel = bootKernel({ profile: kernelProfile(profile), memoryBytes: 64 << 20, cpus: 1 })
  trackSteps(kernel)
  const process = kernel.spawn()
  const calls = new Calls(process)
  const copies = new Map<string, number>()
  kernel.trace.copy = (_cpu, site, bytes) => {
    copies.set(site, (copies.get(site) ?? 0) + bytes)
  }
  return { kernel, process, calls, file: sysOpenFile(process, O_RDONLY, content), copies }
}

function finish({ kernel, process }: Setup): void {
  kernel.mem.fault = null
  for (const fd of process.files.open()) sysClose(process, fd)
  kernel.exit(process)
  assertQuiescent(kernel)
  auditKernel(kernel)
}

function tcpPair({ process, calls }: Setup): [number, number] {
  const listener = calls.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  calls.bind(listener, loopback(false, 4000))
  calls.listen(listener, 1)
  const client = calls.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
  try {
    calls.connect(client, loopback(false, 4000))
  } catch {
    // EINPROGRESS: over loopback it is done all the same.
  }
  const server = calls.accept(listener, SOCK_NONBLOCK)
  sysClose(process, listener)
  return [client, server]
}

function udpPair({ calls }: Setup): [number, number] {
  const to = calls.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
  calls.bind(to, loopback(false, 4001))
  const from = calls.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK)
  calls.connect(from, loopback(false, 4001))
  return [from, to]
}

/** All that waits on a socket or in a pipe. */
function drain({ kernel, process }: Setup, read: (fd: number, len: number) => number, fd: number): Uint8Array {
  const got: number[] = []
  for (let bytes = read(fd, 65_536); bytes > 0; bytes = read(fd, 65_536))
    got.push(...userRead(kernel.mem, process.buffer('recv', 65_536), 0, bytes))
  return Uint8Array.from(got)
}

const same = (got: Uint8Array, from: number): boolean => got.every((byte, i) => byte === content[from + i])

describe.each(PROFILES)('on %s', (profile) => {
  it('sendfile passes pages to TCP, UDP and unix streams, and no byte is copied until somebody reads', () => {
    const s = setup(profile)
    const pairs = [tcpPair(s), udpPair(s), s.calls.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)]
    for (const [from, to] of pairs) {
      s.copies.clear()
      expect(sysSendfile(s.process, from, s.file, new Loff(1000), 40_000)).toBe(40_000)
      expect([...s.copies]).toEqual([])
      const got = drain(s, (fd, len) => sysRecvmsg(s.process, fd, len), to)
      expect(got).toHaveLength(40_000)
      expect(same(got, 1000)).toBe(true)
    }
    finish(s)
  })

  it('copies where the protocol takes no pages: unix datagrams', () => {
    const s = setup(profile)
    const [from, to] = s.calls.socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK)
    expect(sysSendfile(s.process, from, s.file, new Loff(), 4096)).toBe(4096)
    expect([...s.copies.values()].reduce((sum, bytes) => sum + bytes, 0)).toBe(4096)
    expect(
      same(
        drain(s, (fd, len) => sysRecvmsg(s.process, fd, len), to),
        0,
      ),
    ).toBe(true)
    finish(s)
  })

  it('splices what TCP and unix streams received into a pipe without a copy', () => {
    const s = setup(profile)
    const [r, w] = s.calls.pipe(O_NONBLOCK)
    for (const [from, to] of [tcpPair(s), s.calls.socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)]) {
      sysSendfile(s.process, from, s.file, new Loff(500), 20_000)
      s.copies.clear()
      let moved = 0
      for (let got = 1; got > 0; moved += Math.max(0, got)) got = sysSplice(s.process, to, null, w, null, 65_536)
      expect(moved).toBe(20_000)
      expect([...s.copies]).toEqual([])
      expect(
        same(
          drain(s, (fd, len) => sysRead(s.process, fd, len), r),
          500,
        ),
      ).toBe(true)
    }
    finish(s)
  })

  it('loses no page and no byte whichever allocation fails', () => {
    for (let n = 1; n < 60; n += n < 24 ? 1 : 5) {
      const s = setup(profile)
      const [client, server] = tcpPair(s)
      s.kernel.mem.fault = failNth(n)
      const at = new Loff(100)
      const sent = sysSendfile(s.process, client, s.file, at, 30_000)
      if (sent > 0) expect(at.pos).toBe(100 + sent)
      const ends = new Int32Array(2)
      try {
        const [r, w] = s.calls.pipe(O_NONBLOCK)
        ends.set([r, w])
        sysSplice(s.process, server, null, w, null, 10_000)
        sysSplice(s.process, s.file, null, w, null, 10_000)
        sysSplice(s.process, r, null, client, null, 20_000)
      } catch {
        // ENFILE: the pipe could not be made.
      }
      s.kernel.mem.fault = null
      auditKernel(s.kernel)
      finish(s)
    }
  })
})
