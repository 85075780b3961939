/**
 * What one CPU has queued for the network: the NAPIs it is to poll, the packets other CPUs and loopback gave
 * it, the output queues it is to run. Only that CPU touches it, except for the input queue.
 */
import type { Cpu } from '@netmem/base'
import { SkbQueue } from '@netmem/skbuff'
import { NapiList, type NapiStruct } from './napi-struct.js'
import type { NetDevs } from './net-devs.js'
import type { Qdisc } from './qdisc.js'
import { XdpBuff } from './xdp.js'
import { XdpFlushLists } from './xdp-redirect-lists.js'

/** Models `struct sd_flow_limit`: who fills the backlog. */
export class FlowLimit {
  /** How many of the last `history.length` packets each flow bucket holds. */
  readonly buckets: Uint16Array
  readonly history: Uint16Array
  historyHead = 0
  count = 0

  constructor(tableLen: number) {
    this.buckets = new Uint16Array(tableLen)
    this.history = new Uint16Array(FLOW_LIMIT_HISTORY)
  }
}

/** Models `FLOW_LIMIT_HISTORY`, in packets. */
export const FLOW_LIMIT_HISTORY = 128

/** Models `struct softnet_data`. */
export class SoftnetData {
  /** Softirqs to run, one bit each. */
  pending = 0
  inNetRxAction = false
  readonly pollList = new NapiList()
  /** The lists that a running `netRxAction` took for itself. */
  readonly rxList = new NapiList()
  readonly rxRepoll = new NapiList()
  readonly inputPktQueue: SkbQueue
  readonly processQueue: SkbQueue
  readonly outputQueue: Qdisc[] = []
  /** Set right after construction: it needs the machine. */
  backlog!: NapiStruct
  /** CPUs whose backlog this CPU filled (RPS): they get an interrupt when the softirq ends. */
  readonly rpsIpiList: Cpu[] = []
  flowLimit: FlowLimit | null = null
  /** The view through which this CPU's programs see frames. */
  readonly xdp: XdpBuff
  readonly xdpFlush = new XdpFlushLists()
  /** Models `xmit.recursion` of the per-CPU `softnet_data`. */
  xmitRecursion = 0
  // The columns of /proc/net/softnet_stat.
  processed = 0
  dropped = 0
  timeSqueeze = 0
  receivedRps = 0
  flowLimitCount = 0
  /** Ours: how often ksoftirqd would have been woken. */
  ksoftirqdWakeups = 0
  /** Ours, with a cost model: virtual time spent in the current round, in all, and until when the CPU is busy. */
  spentNs = 0
  busyNs = 0
  busyUntilNs = 0
  resumeScheduled = false

  constructor(
    env: NetDevs,
    readonly cpu: Cpu,
  ) {
    this.inputPktQueue = new SkbQueue(env.skbs)
    this.processQueue = new SkbQueue(env.skbs)
    this.xdp = new XdpBuff(env.mem, env.skbs.sizes.sharedInfoBytes, env.profile.structs.xdp_frame?.size ?? 40, cpu)
  }
}

/**
 * Models a line of /proc/net/softnet_stat (`softnet_seq_show`): fifteen hexadecimal fields, thirteen where
 * the kernel has no queue lengths there.
 */
export function softnetSeqShow(sd: SoftnetData, fields: 13 | 15): string {
  const input = sd.inputPktQueue.qlen
  const process = sd.processQueue.qlen
  const columns = [
    sd.processed,
    sd.dropped,
    sd.timeSqueeze,
    0,
    0,
    0,
    0,
    0,
    0,
    sd.receivedRps,
    sd.flowLimitCount,
    input + process,
    sd.cpu.id,
    input,
    process,
  ]
  return columns
    .slice(0, fields)
    .map((value) => (value >>> 0).toString(16).padStart(8, '0'))
    .join(' ')
}
