/**
 * The two scripts that administrators pass around, as functions: one writes a list of sysctls, the other
 * prints what the network holds. They show what such scripts really do on a kernel.
 */
import { errnoName } from '@netmem/base'
import { sysctlPath } from './files.js'
import type { ProcHost } from './host.js'

/** The values of the script, as it writes them. Several are not what their author meant; see `tuneNetworkMemory`. */
export const TUNE_NETWORK_MEMORY: readonly (readonly [name: string, value: string])[] = [
  ['net.core.rmem_default', '262144'],
  ['net.core.rmem_max', '16777216'],
  ['net.core.wmem_default', '262144'],
  ['net.core.wmem_max', '16777216'],
  ['net.ipv4.tcp_rmem', '4096 87380 16777216'],
  ['net.ipv4.tcp_wmem', '4096 65536 16777216'],
  ['net.ipv4.tcp_mem', '8388608 12582912 16777216'],
  ['net.ipv4.udp_rmem_min', '8192 87380 16777216'],
  ['net.ipv4.udp_wmem_min', '4096 65536 16777216'],
  ['net.ipv4.udp_mem', '16777216'],
  ['net.core.netdev_max_backlog', '5000'],
  ['net.core.netdev_budget', '600'],
  ['net.ipv4.tcp_window_scaling', '1'],
  ['net.ipv4.tcp_moderate_rcvbuf', '1'],
]

/** What one write did. */
export interface TuneResult {
  readonly name: string
  readonly written: string
  /** 0 or the errno's name. */
  readonly result: string
  /** What the file says now; not always what was written. */
  readonly value: string
}

/**
 * Models `tune_network_memory`: writes a list of sysctls, one `write(2)` each, and reads them back.
 *
 * `tcp_mem` counts pages, so the list's numbers are gigabytes; `udp_rmem_min` holds one number and takes the
 * first of three; a single number written to `udp_mem` changes the first of three and leaves a first limit
 * above the last.
 */
export function tuneNetworkMemory(host: ProcHost, list = TUNE_NETWORK_MEMORY): TuneResult[] {
  return list.map(([name, written]) => {
    const path = sysctlPath(name)
    const err = host.write(path, written)
    return { name, written, result: err === 0 ? '0' : errnoName(err), value: (host.read(path) ?? '').trimEnd() }
  })
}

const section = (title: string, lines: readonly string[]): string => `${[`=== ${title} ===`, ...lines].join('\n')}\n`
const linesOf = (text: string | null): string[] => (text ?? '').split('\n').filter((line) => line !== '')

/**
 * Models `monitor_network_memory`: one round of it, as the host stands now. The script waits ten seconds between
 * rounds; here the caller lets time pass.
 */
export function monitorNetworkMemory(host: ProcHost): string {
  // Only root reads slabinfo: without it the section stays empty, as the script's does.
  const slab = linesOf(host.read('/proc/slabinfo')).filter((line) => line.includes('skbuff'))
  const sockstat = linesOf(host.read('/proc/net/sockstat'))
  const devices = host.list('/sys/class/net').map((name) => {
    const read = (counter: string): string => (host.read(`/sys/class/net/${name}/statistics/${counter}`) ?? '').trim()
    return `${name}: rx_dropped ${read('rx_dropped')} tx_dropped ${read('tx_dropped')} rx_fifo_errors ${read('rx_fifo_errors')}`
  })
  return [
    section('Socket memory', sockstat),
    section('SKB caches', slab),
    section(
      'TCP memory',
      sockstat.filter((line) => line.startsWith('TCP:')),
    ),
    // A real kernel shows page pools over netlink only, so the script's grep finds nothing.
    section('Page pools', []),
    section('Device counters', devices),
  ].join('')
}
