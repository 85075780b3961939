/**
 * Lazy unmapping: an address whose mapping is gone waits here until the IOTLB has been flushed, because until then the
 * device may still reach the old page through it. One flush serves many: the queue fills, or 10 ms pass.
 */
import type { Cpu } from '@netmem/base'
import { freeIovaFast, type IovaRcaches } from './iova-rcache.js'

/** Models `IOVA_DEFAULT_FQ_SIZE`/`TIMEOUT` and, for one queue shared by all CPUs, `IOVA_SINGLE_FQ_SIZE`/`TIMEOUT`. */
export const IOVA_DEFAULT_FQ_SIZE = 256
export const IOVA_SINGLE_FQ_SIZE = 32768
const DEFAULT_TIMEOUT_NS = 10e6
const SINGLE_TIMEOUT_NS = 1000e6

/** Models `struct iova_fq`: a ring with one slot always empty. `counter`: flushes begun when the entry came. */
interface FlushQueue {
  readonly pfn: Float64Array
  readonly pages: Int32Array
  readonly counter: Float64Array
  head: number
  tail: number
}

/** Models the flush-queue part of `struct iommu_dma_cookie`. Queued addresses are unmapped and not yet reusable. */
export class IovaFlushQueues {
  readonly queues: FlushQueue[]
  readonly size: number
  readonly timeoutNs: number
  flushStartCnt = 0
  flushFinishCnt = 0
  timerEvent = 0
  private readonly timerHandler: number

  /** @param flush invalidates the whole domain's IOTLB entries. */
  constructor(
    readonly rcaches: IovaRcaches,
    readonly single: boolean,
    readonly flush: () => void,
  ) {
    const { env } = rcaches.iovad
    this.size = single ? IOVA_SINGLE_FQ_SIZE : IOVA_DEFAULT_FQ_SIZE
    this.timeoutNs = single ? SINGLE_TIMEOUT_NS : DEFAULT_TIMEOUT_NS
    this.queues = (single ? [env.cpus[0]!] : env.cpus).map(() => ({
      pfn: new Float64Array(this.size),
      pages: new Int32Array(this.size),
      counter: new Float64Array(this.size),
      head: 0,
      tail: 0,
    }))
    this.timerHandler = env.events.register((cpuId) => this.timeout(env.cpus[cpuId]!))
  }

  /** Models `fq_flush_timeout`. */
  private timeout(cpu: Cpu): void {
    this.timerEvent = 0
    domainFlush(this)
    for (const fq of this.queues) ringFree(cpu, this, fq)
  }

  armTimer(cpu: Cpu): void {
    if (this.timerEvent !== 0) return
    const { events } = this.rcaches.iovad.env
    this.timerEvent = events.schedule(events.nowNs + this.timeoutNs, this.timerHandler, cpu.id)
  }
}

/** Models `queue_iova` (drivers/iommu/dma-iommu.c): takes the address; a full queue flushes at once. */
export function queueIova(cpu: Cpu, fqs: IovaFlushQueues, pfn: number, pages: number): void {
  const fq = fqs.queues[fqs.single ? 0 : cpu.id]!
  // What another CPU's flush covered can go first.
  ringFree(cpu, fqs, fq)
  if ((fq.tail + 1) % fqs.size === fq.head) {
    domainFlush(fqs)
    ringFree(cpu, fqs, fq)
  }
  const at = fq.tail
  fq.tail = (at + 1) % fqs.size
  fq.pfn[at] = pfn
  fq.pages[at] = pages
  fq.counter[at] = fqs.flushStartCnt
  fqs.armTimer(cpu)
}

function domainFlush(fqs: IovaFlushQueues): void {
  fqs.flushStartCnt++
  fqs.flush()
  fqs.flushFinishCnt++
}

function ringFree(cpu: Cpu, fqs: IovaFlushQueues, fq: FlushQueue): void {
  while (fq.head !== fq.tail && fq.counter[fq.head]! < fqs.flushFinishCnt) {
    freeIovaFast(cpu, fqs.rcaches, fq.pfn[fq.head]!, fq.pages[fq.head]!)
    fq.head = (fq.head + 1) % fqs.size
  }
}

/** Flushes and frees everything queued: when a domain ends. */
export function drainFlushQueues(cpu: Cpu, fqs: IovaFlushQueues): void {
  if (fqs.timerEvent !== 0) fqs.rcaches.iovad.env.events.cancel(fqs.timerEvent)
  fqs.timerEvent = 0
  domainFlush(fqs)
  for (const fq of fqs.queues) ringFree(cpu, fqs, fq)
}

/** @returns starting frames that wait for a flush; for audits. */
export function iovaQueued(fqs: IovaFlushQueues): number[] {
  return fqs.queues.flatMap((fq) => {
    const pfns: number[] = []
    for (let at = fq.head; at !== fq.tail; at = (at + 1) % fqs.size) pfns.push(fq.pfn[at]!)
    return pfns
  })
}
