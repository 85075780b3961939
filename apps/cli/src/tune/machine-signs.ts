/** What a machine says of itself: its memory, its settings, and the counters that tell where memory was short. */
import type { ProcHost } from '@netmem/kernel-model'

export interface MachineSigns {
  readonly release: string
  /** MemTotal, in bytes; 0 where it is unknown. */
  readonly memoryBytes: number
  readonly cpus: number
  /** Counters by the names of nstat. */
  readonly counters: ReadonlyMap<string, number>
  /** Sums of /proc/net/softnet_stat over all processors. */
  readonly softnet: { readonly processed: number; readonly dropped: number; readonly squeezed: number }
  /** Pages charged to TCP and UDP. */
  readonly pages: { readonly tcp: number; readonly udp: number }
}

export function machineSigns(host: ProcHost): MachineSigns {
  const file = (path: string): string => host.read(path) ?? ''
  const counters = new Map<string, number>()
  for (const path of ['/proc/net/snmp', '/proc/net/netstat']) {
    const lines = file(path).split('\n')
    for (let i = 0; i + 1 < lines.length; i += 2) {
      const [prefix, ...names] = lines[i]!.split(' ')
      const values = lines[i + 1]!.split(' ').slice(1)
      for (const [at, name] of names.entries()) counters.set(`${prefix!.slice(0, -1)}${name}`, Number(values[at]))
    }
  }
  const rows = file('/proc/net/softnet_stat')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' ').map((word) => Number.parseInt(word, 16)))
  const sum = (column: number): number => rows.reduce((total, row) => total + (row[column] ?? 0), 0)
  const pages = (name: string): number =>
    Number(new RegExp(`^${name}: .*\\bmem (\\d+)`, 'm').exec(file('/proc/net/sockstat'))?.[1] ?? 0)
  return {
    release: /^Linux version (\S+)/.exec(file('/proc/version'))?.[1] ?? 'unknown',
    memoryBytes: Number(/^MemTotal:\s+(\d+) kB/m.exec(file('/proc/meminfo'))?.[1] ?? 0) * 1024,
    cpus: rows.length,
    counters,
    softnet: { processed: sum(0), dropped: sum(1), squeezed: sum(2) },
    pages: { tcp: pages('TCP'), udp: pages('UDP') },
  }
}

export const sysctlPath = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`

/** @returns the value with single blanks, or null where the machine has no such sysctl. */
export const sysctlText = (host: ProcHost, name: string): string | null =>
  host.read(sysctlPath(name))?.trim().replace(/\s+/g, ' ') ?? null
