/** /proc/net/dev and /proc/net/softnet_stat: what devices and CPUs counted. */
import { devStatistics, type NetDevice, softnetSeqShow } from '@netmem/virtual-nic'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'

const HEADER =
  'Inter-|   Receive                                                |  Transmit\n' +
  ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n'

/** Models `dev_seq_printf_stats` (net/core/net-procfs.c). */
function devSeqPrintfStats(dev: NetDevice): string {
  const s = devStatistics(dev)
  const frame = s.rx_length_errors + s.rx_over_errors + s.rx_crc_errors + s.rx_frame_errors
  const carrier = s.tx_carrier_errors + s.tx_aborted_errors + s.tx_window_errors + s.tx_heartbeat_errors
  const columns: readonly (readonly [number, number])[] = [
    [s.rx_bytes, 7],
    [s.rx_packets, 7],
    [s.rx_errors, 4],
    [s.rx_dropped + s.rx_missed_errors, 4],
    [s.rx_fifo_errors, 4],
    [frame, 5],
    [s.rx_compressed, 10],
    [s.multicast, 9],
    [s.tx_bytes, 8],
    [s.tx_packets, 7],
    [s.tx_errors, 4],
    [s.tx_dropped, 4],
    [s.tx_fifo_errors, 4],
    [s.collisions, 5],
    [carrier, 7],
    [s.tx_compressed, 10],
  ]
  return `${dev.name.padStart(6)}: ${columns.map(([value, width]) => String(value).padStart(width)).join(' ')}\n`
}

/** Models `dev_seq_show` (net/core/net-procfs.c). @returns the text of /proc/net/dev. */
export function devSeqShow(net: Net): string {
  return HEADER + [...net.devices.values()].map(devSeqPrintfStats).join('')
}

/** Models `softnet_seq_show` of all CPUs. @returns the text of /proc/net/softnet_stat. */
export function softnetStat(kernel: Kernel): string {
  const fields = kernel.profile.features.skbDeferLockless ? 15 : 13
  return kernel.devs.softnet.map((sd) => `${softnetSeqShow(sd, fields)}\n`).join('')
}
