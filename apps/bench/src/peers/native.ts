/**
 * Native peers: DPDK's mempools and mbufs, libc's malloc, the C twin of our receive path and the host's own
 * kernel. Built here from `native/` when a compiler and the headers are installed; what can't be built or run
 * is reported as missing, with the reason.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const sources = fileURLToPath(new URL('../native/', import.meta.url))

export interface NativePeers {
  /** Runs one peer figure. @returns nanoseconds per operation, or why there is none. */
  measure(name: string): number | { missing: string }
  close(): void
}

const EAL = ['-l', '0', '--no-huge', '-m', '512', '--no-pci', '--no-telemetry', '--no-shconf']
const RUN_MS = 60_000

export function openNativePeers(): NativePeers {
  const dir = mkdtempSync(join(tmpdir(), 'netmem-peers-'))
  const built = new Map<string, { path: string } | { missing: string }>()
  const namespaces: string[] = []

  const build = (
    program: string,
    flags: () => string[] | { missing: string },
  ): { path: string } | { missing: string } => {
    const known = built.get(program)
    if (known !== undefined) return known
    const extra = flags()
    let result: { path: string } | { missing: string }
    if (!Array.isArray(extra)) result = extra
    else {
      const path = join(dir, program)
      const gcc = spawnSync('gcc', ['-w', '-o', path, join(sources, `${program}.c`), ...extra], { encoding: 'utf8' })
      result =
        gcc.status === 0 && existsSync(path) && statSync(path).size > 0
          ? { path }
          : { missing: 'gcc can not build it here' }
    }
    built.set(program, result)
    return result
  }

  const dpdkFlags = () => {
    const pkg = spawnSync('pkg-config', ['--cflags', '--libs', 'libdpdk'], { encoding: 'utf8' })
    if (pkg.status !== 0) return { missing: 'libdpdk-dev is not installed' }
    return ['-O3', '-march=native', ...pkg.stdout.trim().split(/\s+/)]
  }

  const xdpFlags = () => {
    const pkg = spawnSync('pkg-config', ['--cflags', '--libs', 'libxdp', 'libbpf'], { encoding: 'utf8' })
    if (pkg.status !== 0) return { missing: 'libxdp-dev is not installed' }
    return ['-O2', ...pkg.stdout.trim().split(/\s+/)]
  }

  const first = (command: string, argv: string[], column: number, match: string): number | { missing: string } => {
    const { stdout, status } = spawnSync(command, argv, { encoding: 'utf8', timeout: RUN_MS })
    for (const line of (stdout ?? '').split('\n')) {
      const cells = line.split('\t')
      if (cells[0]?.startsWith(match)) {
        const value = Number(cells[column])
        if (Number.isFinite(value)) return value
      }
    }
    return { missing: `${match}: no figure (exit ${status})` }
  }

  return {
    measure(name) {
      if (name.startsWith('dpdk.') || name.startsWith('libc.')) {
        const program = build('dpdk_bench', dpdkFlags)
        return 'missing' in program ? program : first(program.path, [...EAL, '--', name], 1, name)
      }
      if (name.startsWith('twin.')) {
        const program = build('rx_twin', () => ['-O2', '-march=native'])
        if ('missing' in program) return program
        const [, bytes, device] = name.split('.')
        return first(program.path, [bytes!, device === 'device' ? '1' : '0'], 1, 'twin.rx')
      }
      if (name.startsWith('kernel.xsk.')) {
        const program = build('xskbench', xdpFlags)
        if ('missing' in program) return program
        if (process.getuid?.() !== 0) return { missing: 'needs root for a network namespace' }
        return kernelFigure(program.path, name, namespaces, first)
      }
      if (name.startsWith('kernel.tcp.')) {
        const program = build('tcp_loopback', () => ['-O2'])
        return 'missing' in program ? program : first(program.path, [name.split('.')[2]!, SECONDS], 1, 'tcp.lo')
      }
      if (name.startsWith('kernel.')) {
        const program = build('netbench', () => ['-O2'])
        if ('missing' in program) return program
        if (process.getuid?.() !== 0) return { missing: 'needs root for a network namespace' }
        return kernelFigure(program.path, name, namespaces, first)
      }
      return { missing: `no peer called ${name}` }
    },
    close() {
      for (const ns of namespaces) spawnSync('ip', ['netns', 'del', ns])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

type First = (command: string, argv: string[], column: number, match: string) => number | { missing: string }

const SECONDS = '0.5'
const BATCH = '64'

/**
 * `kernel.tap.64`, `kernel.lo.64`, `kernel.veth.64`: the host's own kernel in namespaces of its own, on one CPU.
 * `kernel.tpv3.22`, `kernel.xsk.22`: its TPACKET_V3 and its AF_XDP in copy mode on veth, the sender on a CPU of its own.
 */
function kernelFigure(path: string, name: string, namespaces: string[], first: First): number | { missing: string } {
  const [, kind, bytes] = name.split('.') as [string, string, string]
  const ip = (...argv: string[]): boolean => spawnSync('ip', argv).status === 0
  const [a, b] = [`netmem-bench-${process.pid}`, `netmem-bench-${process.pid}-b`]
  const names = kind === 'veth' || kind === 'tpv3' || kind === 'xsk' ? [a, b] : [a]
  try {
    for (const ns of names) {
      if (!ip('netns', 'add', ns)) return { missing: 'no network namespaces here' }
      namespaces.push(ns)
      ip('-n', ns, 'link', 'set', 'lo', 'up')
    }
    if (kind === 'tap') return first(path, ['tap', a, bytes, SECONDS, '0', '0', BATCH], 2, 'tap.udp1cpu')
    if (kind === 'lo') return first(path, ['udp1', a, a, '127.0.0.1', bytes, SECONDS, '0', BATCH], 2, 'lo.udp1cpu')
    ip('link', 'add', 'nmb0', 'netns', a, 'type', 'veth', 'peer', 'name', 'nmb1', 'netns', b)
    ip('-n', a, 'addr', 'add', '10.88.0.1/24', 'dev', 'nmb0')
    ip('-n', b, 'addr', 'add', '10.88.0.2/24', 'dev', 'nmb1')
    ip('-n', a, 'link', 'set', 'nmb0', 'up')
    ip('-n', b, 'link', 'set', 'nmb1', 'up')
    spawnSync('sleep', ['0.3'])
    if (kind === 'tpv3') {
      const receiver = cpus().length > 1 ? '1' : '0'
      return first(path, ['tpv3', a, b, '10.88.0.2', 'nmb1', bytes, SECONDS, '0', receiver], 2, 'veth.tpacketv3')
    }
    if (kind === 'xsk') {
      const receiver = cpus().length > 1 ? '1' : '0'
      const argv = ['netns', 'exec', b, path, 'rx', 'nmb1', a, '10.88.0.2', bytes, SECONDS, '0', receiver]
      return first('ip', argv, 2, 'veth.afxdp-copy')
    }
    return first(path, ['udp1', a, b, '10.88.0.2', bytes, SECONDS, '0', BATCH], 2, 'veth.udp1cpu')
  } finally {
    for (const ns of names) ip('netns', 'del', ns)
    namespaces.splice(namespaces.length - names.length, names.length)
  }
}
