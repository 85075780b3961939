/**
 * Native peers: DPDK's mempools and mbufs, libc's malloc, the C twin of our receive path and the host's own
 * kernel. Built here from `native/` when a compiler and the headers are installed; what can't be built or run
 * is reported as missing, with the reason.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
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
      if (name.startsWith('kernel.')) {
        const program = build('netbench', () => ['-O2'])
        if ('missing' in program) return program
        if (process.getuid?.() !== 0) return { missing: 'needs root for a network namespace' }
        const ns = `netmem-bench-${process.pid}`
        if (spawnSync('ip', ['netns', 'add', ns]).status !== 0) return { missing: 'no network namespaces here' }
        namespaces.push(ns)
        try {
          const [, , bytes] = name.split('.')
          return first(program.path, ['tap', ns, bytes!, '0.5', '0', '0', '64'], 2, 'tap.udp1cpu')
        } finally {
          spawnSync('ip', ['netns', 'del', ns])
          namespaces.pop()
        }
      }
      return { missing: `no peer called ${name}` }
    },
    close() {
      for (const ns of namespaces) spawnSync('ip', ['netns', 'del', ns])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
