/**
 * The `net.ipv4.tcp_*` sysctls as TCP reads them: the storage arrays themselves, so that a write through
 * /proc/sys takes effect at once, and no look-up by name happens per packet.
 */
import type { NetNs } from '@netmem/sockmem'

export class TcpSysctls {
  readonly rmem: Float64Array
  readonly wmem: Float64Array
  readonly rmemMax: Float64Array
  readonly advWinScale: Float64Array
  readonly appWin: Float64Array
  readonly windowScaling: Float64Array
  readonly timestamps: Float64Array
  readonly sack: Float64Array
  readonly dsack: Float64Array
  readonly moderateRcvbuf: Float64Array
  readonly notsentLowat: Float64Array
  readonly limitOutputBytes: Float64Array
  readonly autocorking: Float64Array
  readonly minTsoSegs: Float64Array
  readonly tsoRttLog: Float64Array
  readonly tsoWinDivisor: Float64Array
  readonly earlyRetrans: Float64Array
  readonly reordering: Float64Array
  readonly maxReordering: Float64Array
  readonly retransCollapse: Float64Array
  readonly shrinkWindow: Float64Array
  readonly slowStartAfterIdle: Float64Array
  readonly compSackNr: Float64Array
  readonly compSackDelayNs: Float64Array
  readonly compSackRttPercent: Float64Array
  readonly backlogAckDefer: Float64Array
  readonly pacingSsRatio: Float64Array
  readonly pacingCaRatio: Float64Array
  readonly rtoMinUs: Float64Array
  readonly rtoMaxMs: Float64Array
  readonly synRetries: Float64Array
  readonly synackRetries: Float64Array
  readonly retries1: Float64Array
  readonly retries2: Float64Array
  readonly orphanRetries: Float64Array
  readonly maxOrphans: Float64Array
  readonly finTimeout: Float64Array
  readonly maxTwBuckets: Float64Array
  readonly maxSynBacklog: Float64Array
  readonly somaxconn: Float64Array
  readonly syncookies: Float64Array
  readonly abortOnOverflow: Float64Array
  readonly mtuProbing: Float64Array
  readonly baseMss: Float64Array
  readonly minSndMss: Float64Array
  readonly probeThreshold: Float64Array
  readonly invalidRatelimit: Float64Array
  readonly recovery: Float64Array
  readonly frto: Float64Array
  readonly keepaliveTime: Float64Array
  readonly keepaliveIntvl: Float64Array
  readonly keepaliveProbes: Float64Array
  readonly ipLocalPortRange: Float64Array
  readonly maxSkbFrags: Float64Array

  constructor(net: NetNs) {
    const ip = (name: string, ...fallback: number[]) => net.sysctls.numbers(`net.ipv4.${name}`, fallback)
    this.rmem = net.tcpRmem
    this.wmem = net.tcpWmem
    this.rmemMax = net.sysctls.numbers('net.core.rmem_max', [212992])
    this.advWinScale = ip('tcp_adv_win_scale', 1)
    this.appWin = ip('tcp_app_win', 31)
    this.windowScaling = ip('tcp_window_scaling', 1)
    this.timestamps = ip('tcp_timestamps', 1)
    this.sack = ip('tcp_sack', 1)
    this.dsack = ip('tcp_dsack', 1)
    this.moderateRcvbuf = ip('tcp_moderate_rcvbuf', 1)
    this.notsentLowat = ip('tcp_notsent_lowat', 4294967295)
    this.limitOutputBytes = ip('tcp_limit_output_bytes', 1048576)
    this.autocorking = ip('tcp_autocorking', 1)
    this.minTsoSegs = ip('tcp_min_tso_segs', 2)
    this.tsoRttLog = ip('tcp_tso_rtt_log', 9)
    this.tsoWinDivisor = ip('tcp_tso_win_divisor', 3)
    this.earlyRetrans = ip('tcp_early_retrans', 3)
    this.reordering = ip('tcp_reordering', 3)
    this.maxReordering = ip('tcp_max_reordering', 300)
    this.retransCollapse = ip('tcp_retrans_collapse', 1)
    this.shrinkWindow = ip('tcp_shrink_window', 0)
    this.slowStartAfterIdle = ip('tcp_slow_start_after_idle', 1)
    this.compSackNr = ip('tcp_comp_sack_nr', 44)
    this.compSackDelayNs = ip('tcp_comp_sack_delay_ns', 1000000)
    this.compSackRttPercent = ip('tcp_comp_sack_rtt_percent', 33)
    this.backlogAckDefer = ip('tcp_backlog_ack_defer', 0)
    this.pacingSsRatio = ip('tcp_pacing_ss_ratio', 200)
    this.pacingCaRatio = ip('tcp_pacing_ca_ratio', 120)
    this.rtoMinUs = ip('tcp_rto_min_us', 200000)
    this.rtoMaxMs = ip('tcp_rto_max_ms', 120000)
    this.synRetries = ip('tcp_syn_retries', 6)
    this.synackRetries = ip('tcp_synack_retries', 5)
    this.retries1 = ip('tcp_retries1', 3)
    this.retries2 = ip('tcp_retries2', 15)
    this.orphanRetries = ip('tcp_orphan_retries', 0)
    this.maxOrphans = ip('tcp_max_orphans', 16384)
    this.finTimeout = ip('tcp_fin_timeout', 60)
    this.maxTwBuckets = ip('tcp_max_tw_buckets', 131072)
    this.maxSynBacklog = ip('tcp_max_syn_backlog', 2048)
    this.somaxconn = net.sysctls.numbers('net.core.somaxconn', [4096])
    this.syncookies = ip('tcp_syncookies', 1)
    this.abortOnOverflow = ip('tcp_abort_on_overflow', 0)
    this.mtuProbing = ip('tcp_mtu_probing', 0)
    this.baseMss = ip('tcp_base_mss', 1024)
    this.minSndMss = ip('tcp_min_snd_mss', 48)
    this.probeThreshold = ip('tcp_probe_threshold', 8)
    this.invalidRatelimit = ip('tcp_invalid_ratelimit', 500)
    this.recovery = ip('tcp_recovery', 1)
    this.frto = ip('tcp_frto', 2)
    this.keepaliveTime = ip('tcp_keepalive_time', 7200)
    this.keepaliveIntvl = ip('tcp_keepalive_intvl', 75)
    this.keepaliveProbes = ip('tcp_keepalive_probes', 9)
    this.ipLocalPortRange = ip('ip_local_port_range', 32768, 60999)
    this.maxSkbFrags = net.sysctls.numbers('net.core.max_skb_frags', [17])
  }
}

/** @returns the view of a namespace, made when it is first asked for. */
export function tcpSysctls(net: NetNs): TcpSysctls {
  const owned = net.owned.tcp as TcpSysctls | undefined
  if (owned !== undefined) return owned
  const made = new TcpSysctls(net)
  net.owned.tcp = made
  return made
}
