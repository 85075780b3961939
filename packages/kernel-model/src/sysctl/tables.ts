/**
 * The names below /proc/sys that touch network memory: how many numbers each holds, what it accepts, whether every
 * namespace has its own, and what it is at boot where the profile does not tell.
 *
 * A row with defaults exists on every kernel; one without exists where the profile has a value for it.
 */

import type { KernelProfile } from '@netmem/base'
import { roundPipeSize } from '@netmem/zerocopy'
import { intRange, type NumberRange, ulongRange, unsignedRange } from './parse.js'

/** What one name is. */
export interface SysctlFile {
  /** How many numbers it holds. */
  readonly slots: number
  readonly range: NumberRange
  /** True when every network namespace has its own. */
  readonly perNet: boolean
  /** Boot values where the profile has none. */
  readonly defaults: readonly number[]
  /** One machine's, and shown in other namespaces too, but for reading only. */
  readonly readOnlyInChildren?: boolean
  /**
   * Models handlers that store nothing before all numbers are known to be right.
   * @param other gives the first number of another name.
   */
  readonly check?: (numbers: readonly number[], other: (name: string) => number) => boolean
  /** Models handlers that store another number than the one written; null refuses it (-EINVAL). */
  readonly convert?: (value: bigint) => number | null
  /** What holds so many milliseconds, as ticks do: numbers are rounded up to whole ones. */
  readonly stepMs?: number
  /** Models limits that are other names: this may not pass the value of that one. */
  readonly atLeast?: string
  readonly atMost?: string
}

export type SysctlRow = readonly [name: string, file: SysctlFile]

/** Models `do_proc_dopipe_max_size_conv` (fs/pipe.c): of the number its low 32 bits, rounded as the size of a pipe is. */
function pipeMaxSize(value: bigint, pageSize: number): number | null {
  const size = roundPipeSize(Number(BigInt.asUintN(32, value)), pageSize)
  return size === 0 ? null : size
}

const U32_MAX = 4294967295
const INT_MAX = 2147483647

const int = (perNet: boolean, min?: number, max?: number, ...defaults: number[]): SysctlFile => ({
  slots: 1,
  range: intRange(min, max),
  perNet,
  defaults,
})
const unsigned = (perNet: boolean, min: number, max: number, ...defaults: number[]): SysctlFile => ({
  slots: 1,
  range: unsignedRange(min, max),
  perNet,
  defaults,
})
/** Models `proc_dou8vec_minmax`. */
const byte = (max = 255, ...defaults: number[]): SysctlFile => unsigned(true, 0, max, ...defaults)
const ulong = (perNet: boolean, slots = 1, ...defaults: number[]): SysctlFile => ({
  slots,
  range: ulongRange,
  perNet,
  defaults,
})

function netCore({ HZ, derived, features, MAX_SKB_FRAGS }: KernelProfile): SysctlRow[] {
  const buffer = (min: number): SysctlFile => ({ ...int(false, min), readOnlyInChildren: true })
  return [
    ['rmem_default', buffer(derived.SOCK_MIN_RCVBUF)],
    ['rmem_max', buffer(derived.SOCK_MIN_RCVBUF)],
    ['wmem_default', buffer(derived.SOCK_MIN_SNDBUF)],
    ['wmem_max', buffer(derived.SOCK_MIN_SNDBUF)],
    ['mem_pcpu_rsv', int(false, 256)],
    ['netdev_max_backlog', int(false)],
    ['netdev_budget', int(false)],
    // Two ticks at least.
    ['netdev_budget_usecs', int(false, (2 * 1e6) / HZ)],
    ['dev_weight', int(false, 1)],
    ['dev_weight_rx_bias', int(false, 1)],
    ['dev_weight_tx_bias', int(false, 1)],
    ['gro_normal_batch', int(false, 1)],
    ['max_skb_frags', int(false, 1, MAX_SKB_FRAGS)],
    ['skb_defer_max', int(false, 0)],
    ['busy_poll', int(false, 0)],
    ['busy_read', int(false, 0)],
    ['high_order_alloc_disable', int(false, 0, 1)],
    // Until the sysctl moved into the namespace it was a plain int: any number, of one machine.
    ['optmem_max', features.optmemMaxPerNet ? int(true, 0) : int(false)],
    ['somaxconn', int(true, 0)],
    ['txrehash', byte(1)],
  ]
}

/** What holds seconds and is kept in ticks: not more than an int of ticks can say. */
const seconds = (hz: number, ...defaults: number[]): SysctlFile =>
  int(true, -Math.floor(INT_MAX / hz), Math.floor(INT_MAX / hz), ...defaults)

const bytes3 = (min: number): SysctlFile => ({ slots: 3, range: intRange(min), perNet: true, defaults: [] })

/** Names of bytes of a namespace that the profile has a value of. */
const SWITCHES = [
  'tcp_moderate_rcvbuf',
  'tcp_window_scaling',
  'tcp_timestamps',
  'tcp_sack',
  'tcp_mtu_probing',
  'tcp_retrans_collapse',
  'tcp_slow_start_after_idle',
  'tcp_early_demux',
  'tcp_comp_sack_nr',
  'tcp_tso_rtt_log',
  'udp_early_demux',
  'ip_early_demux',
]

function ipv4Tcp({ HZ, features }: KernelProfile): SysctlRow[] {
  return [
    ['tcp_rmem', bytes3(features.tcpRmemWriteMin)],
    ['tcp_wmem', bytes3(1)],
    ['tcp_mem', ulong(false, 3)],
    ['tcp_limit_output_bytes', int(true)],
    ['tcp_notsent_lowat', unsigned(true, 0, U32_MAX)],
    ['tcp_adv_win_scale', int(true, -31, 31)],
    ['tcp_app_win', byte(31)],
    ['tcp_max_orphans', int(false)],
    ['tcp_shrink_window', byte(1)],
    ['tcp_min_tso_segs', unsigned(true, 1, 255)],
    ['tcp_base_mss', int(true)],
    ['tcp_min_snd_mss', int(true, 48, 65535)],
    ['tcp_tso_win_divisor', byte()],
    ['tcp_pacing_ss_ratio', int(true, 0, 1000)],
    ['tcp_pacing_ca_ratio', int(true, 0, 1000)],
    ['tcp_comp_sack_delay_ns', ulong(true)],
    ['tcp_comp_sack_slack_ns', ulong(true)],
    ['tcp_rto_min_us', int(true, 1)],
    ['tcp_rto_max_ms', int(true, 1000, 120000)],
    ['tcp_max_tw_buckets', int(true, undefined, undefined, 131072)],
    ['tcp_max_syn_backlog', int(true, undefined, undefined, 2048)],
    ['tcp_syn_retries', unsigned(true, 1, 127, 6)],
    ['tcp_synack_retries', byte(255, 5)],
    ['tcp_retries1', byte(255, 3)],
    ['tcp_retries2', byte(255, 15)],
    ['tcp_orphan_retries', byte(255, 0)],
    ['tcp_fin_timeout', seconds(HZ, 60)],
    ['tcp_keepalive_time', seconds(HZ, 7200)],
    ['tcp_keepalive_intvl', seconds(HZ, 75)],
    ['tcp_keepalive_probes', byte(255, 9)],
    ['tcp_syncookies', byte(255, 1)],
    ['tcp_abort_on_overflow', byte(255, 0)],
    ['tcp_dsack', byte(255, 1)],
    ['tcp_early_retrans', byte(4, 3)],
    ['tcp_frto', byte(255, 2)],
    ['tcp_recovery', byte(255, 1)],
    ['tcp_reordering', { ...int(true, 1, undefined, 3), atMost: 'net.ipv4.tcp_max_reordering' }],
    ['tcp_max_reordering', int(true, 1, undefined, 300)],
    ['tcp_autocorking', byte(1)],
    ['tcp_backlog_ack_defer', byte(1)],
    ['tcp_probe_threshold', int(true, undefined, undefined, 8)],
    ['tcp_invalid_ratelimit', milliseconds(HZ, 500)],
    ...SWITCHES.map((name): SysctlRow => [name, byte()]),
  ]
}

/** Models `ipv4_local_port_range`: both at once or none, in order, and not below the ports that need a privilege. */
const portRange: SysctlFile = {
  slots: 2,
  range: intRange(1, 65535),
  perNet: true,
  defaults: [32768, 60999],
  check: ([low = 0, high = 0], other) => low <= high && low >= other('net.ipv4.ip_unprivileged_port_start'),
}

/** Models `ipv4_privileged_ports`: ports that the kernel hands out by itself need no privilege. */
const unprivilegedStart: SysctlFile = {
  ...int(true, 0, 65535, 1024),
  check: ([start = 0], other) => start <= other('net.ipv4.ip_local_port_range'),
}

/** Models `proc_dointvec_ms_jiffies_minmax`. */
const milliseconds = (hz: number, ...defaults: number[]): SysctlFile => ({
  ...int(true, 0, undefined, ...defaults),
  range: { ...intRange(0), wraps: true },
  stepMs: 1000 / hz,
})

function ipv4Rest({ HZ }: KernelProfile): SysctlRow[] {
  return [
    ['udp_mem', ulong(false, 3)],
    ['udp_rmem_min', int(true, 1)],
    ['udp_wmem_min', int(true, 1)],
    ['ip_default_ttl', unsigned(true, 1, 255, 64)],
    ['ip_local_port_range', portRange],
    ['ip_unprivileged_port_start', unprivilegedStart],
    ['icmp_ratelimit', milliseconds(HZ, 1000)],
    ['icmp_ratemask', int(true, undefined, undefined, 6168)],
    ['ipfrag_high_thresh', { ...ulong(true), atLeast: 'net.ipv4.ipfrag_low_thresh' }],
    ['ipfrag_low_thresh', { ...ulong(true), atMost: 'net.ipv4.ipfrag_high_thresh' }],
    ['ipfrag_max_dist', int(true, 0)],
    ['ipfrag_time', seconds(HZ)],
    ['ipfrag_secret_interval', { ...seconds(HZ), perNet: false }],
    // Of the initial namespace only.
    ['fib_sync_mem', unsigned(false, 65536, 67108864)],
    ['igmp_max_memberships', int(true)],
  ]
}

function others({ HZ, page_size }: KernelProfile): SysctlRow[] {
  return [
    ['net.ipv6.ip6frag_high_thresh', { ...ulong(true), atLeast: 'net.ipv6.ip6frag_low_thresh' }],
    ['net.ipv6.ip6frag_low_thresh', { ...ulong(true), atMost: 'net.ipv6.ip6frag_high_thresh' }],
    ['net.ipv6.ip6frag_time', seconds(HZ)],
    ['net.ipv6.bindv6only', byte(255, 0)],
    ['net.unix.max_dgram_qlen', int(true)],
    ['fs.pipe-max-size', { ...ulong(false), convert: (value) => pipeMaxSize(value, page_size) }],
    ['fs.pipe-user-pages-hard', ulong(false)],
    ['fs.pipe-user-pages-soft', ulong(false)],
    ['vm.min_free_kbytes', int(false, 0, undefined, 0)],
    ['vm.watermark_scale_factor', int(false, 1, 3000, 10)],
    ['vm.watermark_boost_factor', int(false, 0, undefined, 15000)],
    ['vm.percpu_pagelist_high_fraction', int(false, 0, undefined, 0)],
    ['vm.lowmem_reserve_ratio', { slots: 5, range: intRange(), perNet: false, defaults: [256, 256, 32, 0, 0] }],
  ]
}

/** @returns all rows, in the order of the kernel's tables. */
export function sysctlRows(profile: KernelProfile): SysctlRow[] {
  const under = (prefix: string, rows: readonly SysctlRow[]): SysctlRow[] =>
    rows.map(([name, file]) => [`${prefix}.${name}`, file])
  return [
    ...under('net.core', netCore(profile)),
    ...under('net.ipv4', [...ipv4Tcp(profile), ...ipv4Rest(profile)]),
    ...others(profile),
  ]
}
