/**
 * /proc/sys: which names there are on this kernel, what each accepts, and whether a namespace has its own.
 * The numbers live in the packages that obey them (`Sysctls`); here is only what a reader or writer meets.
 */
import { ERRNO, type KernelProfile } from '@netmem/base'
import type { Sysctls } from '@netmem/sockmem'
import { intRange, type NumberRange, procWriteVector, ulongRange, unsignedRange } from './parse.js'

/** What one name is. `slots` numbers, or a word when 0. */
interface SysctlFile {
  readonly slots: number
  readonly range: NumberRange
  /** True when every network namespace has its own. */
  readonly perNet: boolean
  readonly defaults: readonly number[]
}

/** Models the entries of `netns_core_table`, `net_core_table`, `ipv4_net_table` and `ipv4_table` that touch memory. */
export class SysctlFiles {
  private readonly files = new Map<string, SysctlFile>()
  /** Numbers beyond 2^53 keep the text that was written, as a double cannot hold them: by storage and slot. */
  private readonly exact = new WeakMap<Float64Array, (string | undefined)[]>()

  constructor(readonly profile: KernelProfile) {
    const { features, derived } = profile
    const jiffyUsecs = 1e6 / profile.HZ
    const int = (perNet: boolean, min?: number, max?: number, ...defaults: number[]): SysctlFile => ({
      slots: 1,
      range: intRange(min, max),
      perNet,
      defaults,
    })
    const byte = (perNet: boolean, max = 255): SysctlFile => ({
      slots: 1,
      range: unsignedRange(0, max),
      perNet,
      defaults: [],
    })
    const core = (name: string, file: SysctlFile): void => this.add(`net.core.${name}`, file)
    const ipv4 = (name: string, file: SysctlFile): void => this.add(`net.ipv4.${name}`, file)

    core('rmem_default', int(false, derived.SOCK_MIN_RCVBUF))
    core('rmem_max', int(false, derived.SOCK_MIN_RCVBUF))
    core('wmem_default', int(false, derived.SOCK_MIN_SNDBUF))
    core('wmem_max', int(false, derived.SOCK_MIN_SNDBUF))
    core('mem_pcpu_rsv', int(false, 256))
    core('netdev_max_backlog', int(false))
    core('netdev_budget', int(false))
    core('netdev_budget_usecs', int(false, 2 * jiffyUsecs))
    for (const name of ['dev_weight', 'dev_weight_rx_bias', 'dev_weight_tx_bias', 'gro_normal_batch'])
      core(name, int(false, 1))
    core('max_skb_frags', int(false, 1, profile.MAX_SKB_FRAGS))
    core('skb_defer_max', int(false, 0))
    core('busy_poll', int(false, 0))
    core('busy_read', int(false, 0))
    core('high_order_alloc_disable', int(false, 0, 1))
    // Until the sysctl moved into the namespace it was a plain int: any number, of one machine.
    core('optmem_max', features.optmemMaxPerNet ? int(true, 0) : int(false))
    core('somaxconn', int(true, 0))
    core('txrehash', byte(true, 1))

    const bytes3 = (min: number): SysctlFile => ({ slots: 3, range: intRange(min), perNet: true, defaults: [] })
    ipv4('tcp_rmem', bytes3(features.tcpRmemWriteMin))
    ipv4('tcp_wmem', bytes3(1))
    ipv4('tcp_mem', { slots: 3, range: ulongRange, perNet: false, defaults: [] })
    ipv4('udp_mem', { slots: 3, range: ulongRange, perNet: false, defaults: [] })
    ipv4('udp_rmem_min', int(true, 1))
    ipv4('udp_wmem_min', int(true, 1))
    ipv4('tcp_limit_output_bytes', int(true))
    ipv4('tcp_notsent_lowat', { slots: 1, range: unsignedRange(0, 0xffffffff), perNet: true, defaults: [] })
    ipv4('tcp_adv_win_scale', int(true, -31, 31))
    ipv4('tcp_app_win', byte(true, 31))
    ipv4('tcp_max_orphans', int(false))
    for (const name of [
      'tcp_moderate_rcvbuf',
      'tcp_window_scaling',
      'tcp_timestamps',
      'tcp_sack',
      'tcp_mtu_probing',
      'tcp_autocorking',
      'tcp_retrans_collapse',
      'tcp_slow_start_after_idle',
      'tcp_early_demux',
      'tcp_backlog_ack_defer',
      'tcp_comp_sack_nr',
      'tcp_tso_rtt_log',
      'udp_early_demux',
      'ip_early_demux',
    ])
      ipv4(name, byte(true))
    ipv4('tcp_shrink_window', byte(true, 1))
    ipv4('tcp_min_tso_segs', { ...byte(true), range: unsignedRange(1, 255) })
    for (const name of ['tcp_base_mss', 'tcp_min_snd_mss', 'tcp_tso_win_divisor', 'ipfrag_max_dist'])
      ipv4(name, int(true, 0))
    ipv4('tcp_pacing_ss_ratio', int(true, 0, 1000))
    ipv4('tcp_pacing_ca_ratio', int(true, 0, 1000))
    for (const name of ['tcp_comp_sack_delay_ns', 'tcp_comp_sack_slack_ns', 'ipfrag_high_thresh', 'ipfrag_low_thresh'])
      ipv4(name, { slots: 1, range: ulongRange, perNet: true, defaults: [] })
    ipv4('ipfrag_time', int(true))
    ipv4('ipfrag_secret_interval', int(false))
    ipv4('fib_sync_mem', { slots: 1, range: unsignedRange(65536, 67108864), perNet: true, defaults: [] })
    ipv4('igmp_max_memberships', int(true))
    this.add('net.unix.max_dgram_qlen', int(true))
    this.add('fs.pipe-max-size', { slots: 1, range: unsignedRange(0, 0xffffffff), perNet: false, defaults: [] })
    this.add('fs.pipe-user-pages-hard', { slots: 1, range: ulongRange, perNet: false, defaults: [] })
    this.add('fs.pipe-user-pages-soft', { slots: 1, range: ulongRange, perNet: false, defaults: [] })
  }

  private add(name: string, file: SysctlFile): void {
    if (file.defaults.length > 0 || this.profile.sysctl[name] !== undefined) this.files.set(name, file)
  }

  /** Makes the storage of all values that namespaces share, so that no namespace gets one of its own by asking first. */
  prime(machine: Sysctls): void {
    for (const [name, file] of this.files) if (!file.perNet) machine.numbers(name, file.defaults)
  }

  /** @returns all names, in the order of the tables. */
  names(): string[] {
    return [...this.files.keys()]
  }

  /** @returns whether each network namespace has its own value of this name. */
  isPerNet(name: string): boolean {
    return this.files.get(name)?.perNet ?? false
  }

  private storage(name: string, file: SysctlFile, machine: Sysctls, net: Sysctls): Float64Array {
    return (file.perNet ? net : machine).numbers(name, file.defaults)
  }

  /**
   * Models `proc_sys_write`: one `write(2)` at offset 0.
   *
   * @param machine the values that all namespaces share; `net` those of the writer's own.
   * @returns 0, or -ENOENT, or -EINVAL; numbers before a bad one are stored all the same.
   */
  write(machine: Sysctls, net: Sysctls, name: string, text: string): number {
    const file = this.files.get(name)
    if (file === undefined) return -ERRNO.ENOENT
    const numbers = this.storage(name, file, machine, net)
    return procWriteVector(text, file.slots, file.range, (index, value) => {
      numbers[index] = Number(value)
      const exact = this.exact.get(numbers) ?? []
      exact[index] = Number.isSafeInteger(numbers[index]) ? undefined : String(value)
      this.exact.set(numbers, exact)
    })
  }

  /** Models `proc_sys_read`. @returns the value without its last newline, or null when there is no such name. */
  read(machine: Sysctls, net: Sysctls, name: string): string | null {
    const file = this.files.get(name)
    if (file === undefined) return this.profile.sysctl[name] === undefined ? null : net.text(name)
    const numbers = this.storage(name, file, machine, net)
    const exact = this.exact.get(numbers)
    const shown = [...numbers].map((value, index) => {
      const text = exact?.[index]
      return text !== undefined && Number(text) === value ? text : String(value)
    })
    return shown.slice(0, file.slots).join('\t')
  }
}
