/**
 * The window on the model: tracepoints with the kernel's names and fields. A tracepoint is a nullable
 * function; off, it costs one test. Reports, sanitizers, exporters and the trace player subscribe; the
 * model does not know them.
 *
 *     if (trace.kfreeSkb !== null) trace.kfreeSkb(cpu, skb.addr, location, skb.protocol, reason, skb.sk)
 *
 * `site` and `location` are names of kernel functions (the caller, as the kernel's tracepoint prints it).
 * Addresses are direct-map addresses, sizes bytes, `node` a NUMA node number or -1 for "any".
 */
import type { Addr, Gfp, Pfn } from './brands.js'
import type { Cpu } from './cpu.js'

/** Every tracepoint, in the kernel's groups. Each docstring names the kernel's event. */
export interface TraceEvents {
  /** Models `kmem:kmalloc`. */
  kmalloc(
    cpu: Cpu,
    site: string,
    addr: Addr,
    bytesReq: number,
    bytesAlloc: number,
    gfp: Gfp,
    node: number,
    accounted: boolean,
  ): void
  /** Models `kmem:kfree`. */
  kfree(cpu: Cpu, site: string, addr: Addr): void
  /** Models `kmem:kmem_cache_alloc`; `cache` is the name the caller asked for, merged or not. */
  kmemCacheAlloc(
    cpu: Cpu,
    site: string,
    addr: Addr,
    cache: string,
    bytesReq: number,
    bytesAlloc: number,
    gfp: Gfp,
    node: number,
    accounted: boolean,
  ): void
  /** Models `kmem:kmem_cache_free`. */
  kmemCacheFree(cpu: Cpu, site: string, addr: Addr, cache: string): void
  /** Models `kmem:mm_page_alloc`; `site` is the first frame outside the page allocator. */
  mmPageAlloc(cpu: Cpu, pfn: Pfn, order: number, gfp: Gfp, migratetype: number, site: string): void
  /** Models `kmem:mm_page_free`. */
  mmPageFree(cpu: Cpu, pfn: Pfn, order: number, site: string): void
  /** Models `kmem:mm_page_free_batched`. */
  mmPageFreeBatched(cpu: Cpu, pfn: Pfn, site: string): void
  /** Models `kmem:mm_page_alloc_zone_locked`. */
  mmPageAllocZoneLocked(cpu: Cpu, pfn: Pfn, order: number, migratetype: number): void
  /** Models `kmem:mm_page_pcpu_drain`. */
  mmPagePcpuDrain(cpu: Cpu, pfn: Pfn, order: number, migratetype: number): void
  /** Models `kmem:mm_page_alloc_extfrag`. */
  mmPageAllocExtfrag(
    cpu: Cpu,
    pfn: Pfn,
    allocOrder: number,
    fallbackOrder: number,
    allocType: number,
    fallbackType: number,
  ): void
  /** Models `skb:kfree_skb`; `reason` without `SKB_DROP_REASON_`, `protocol` an EtherType, `rxSk` a socket id or 0. */
  kfreeSkb(cpu: Cpu, skb: Addr, location: string, protocol: number, reason: string, rxSk: number): void
  /** Models `skb:consume_skb`. */
  consumeSkb(cpu: Cpu, skb: Addr, location: string): void
  /** Models `skb:skb_copy_datagram_iovec`. */
  skbCopyDatagramIovec(cpu: Cpu, skb: Addr, len: number): void
  /** Models `page_pool:page_pool_state_hold`. */
  pagePoolStateHold(cpu: Cpu, pool: number, pfn: Pfn, hold: number): void
  /** Models `page_pool:page_pool_state_release`. */
  pagePoolStateRelease(cpu: Cpu, pool: number, pfn: Pfn, release: number): void
  /** Models `page_pool:page_pool_release`. */
  pagePoolRelease(pool: number, inflight: number, hold: number, release: number): void
  /** Models `page_pool:page_pool_update_nid`. */
  pagePoolUpdateNid(pool: number, newNid: number): void
  /** Models `sock:sock_exceed_buf_limit`; `kind` 0 send, 1 receive; limits and `allocated` in pages. */
  sockExceedBufLimit(cpu: Cpu, sk: number, proto: string, allocated: number, kind: number): void
  /** Models `sock:sock_rcvqueue_full`. */
  sockRcvqueueFull(cpu: Cpu, sk: number, rmemAlloc: number, truesize: number, rcvbuf: number): void
  /** Models `sock:inet_sock_set_state`. */
  inetSockSetState(sk: number, oldState: number, newState: number): void
  /** Models `udp:udp_fail_queue_rcv_skb`. */
  udpFailQueueRcvSkb(cpu: Cpu, rc: number, sk: number): void
  /** Models `tcp:tcp_rcv_space_adjust`. */
  tcpRcvSpaceAdjust(sk: number, space: number, rcvbuf: number): void
  /** Models `tcp:tcp_retransmit_skb`. */
  tcpRetransmitSkb(sk: number, skb: Addr): void
  /** Models `napi:napi_poll`. */
  napiPoll(cpu: Cpu, napi: number, dev: string, work: number, budget: number): void
  /** Models `net:netif_rx`. */
  netifRx(cpu: Cpu, skb: Addr, len: number, dev: string): void
  /** Models `net:netif_receive_skb`. */
  netifReceiveSkb(cpu: Cpu, skb: Addr, len: number, dev: string): void
  /** Models `net:net_dev_queue`. */
  netDevQueue(cpu: Cpu, skb: Addr, len: number, dev: string): void
  /** Models `net:net_dev_start_xmit`. */
  netDevStartXmit(cpu: Cpu, skb: Addr, len: number, dev: string): void
  /** Models `net:net_dev_xmit`; `rc` 0 sent, 16 busy. */
  netDevXmit(cpu: Cpu, skb: Addr, len: number, rc: number, dev: string): void
  /** Models `dma:dma_map_phys`. */
  dmaMap(dev: string, phys: number, dma: number, bytes: number, dir: number): void
  /** Models `dma:dma_unmap_phys`. */
  dmaUnmap(dev: string, dma: number, bytes: number, dir: number): void
  /** Models `dma:dma_sync_single_for_cpu`. */
  dmaSyncSingleForCpu(dev: string, dma: number, bytes: number, dir: number): void
  /** Models `dma:dma_sync_single_for_device`. */
  dmaSyncSingleForDevice(dev: string, dma: number, bytes: number, dir: number): void
  /** Models `swiotlb:swiotlb_bounced`. */
  swiotlbBounced(dev: string, dma: number, bytes: number, force: boolean): void
  /** Models `iommu:map`. */
  iommuMap(dev: string, iova: number, phys: number, bytes: number): void
  /** Models `iommu:unmap`. */
  iommuUnmap(dev: string, iova: number, bytes: number): void
  /** Ours: bytes copied by the CPU on a data path; `site` is the kernel function that copies. */
  copy(cpu: Cpu, site: string, bytes: number): void
  /** Models a line in the kernel log (`pr_warn` and friends, rate limits applied). */
  printk(words: string): void
  /** Models `WARN_ON_ONCE` and friends: the kernel goes on; tests assert on it. */
  warn(site: string, words: string): void
}

type Hooks = { -readonly [K in keyof TraceEvents]: TraceEvents[K] | null }

/** One machine's tracepoints. All null until somebody subscribes; one shape for ever. */
export class Trace implements Hooks {
  kmalloc: TraceEvents['kmalloc'] | null = null
  kfree: TraceEvents['kfree'] | null = null
  kmemCacheAlloc: TraceEvents['kmemCacheAlloc'] | null = null
  kmemCacheFree: TraceEvents['kmemCacheFree'] | null = null
  mmPageAlloc: TraceEvents['mmPageAlloc'] | null = null
  mmPageFree: TraceEvents['mmPageFree'] | null = null
  mmPageFreeBatched: TraceEvents['mmPageFreeBatched'] | null = null
  mmPageAllocZoneLocked: TraceEvents['mmPageAllocZoneLocked'] | null = null
  mmPagePcpuDrain: TraceEvents['mmPagePcpuDrain'] | null = null
  mmPageAllocExtfrag: TraceEvents['mmPageAllocExtfrag'] | null = null
  kfreeSkb: TraceEvents['kfreeSkb'] | null = null
  consumeSkb: TraceEvents['consumeSkb'] | null = null
  skbCopyDatagramIovec: TraceEvents['skbCopyDatagramIovec'] | null = null
  pagePoolStateHold: TraceEvents['pagePoolStateHold'] | null = null
  pagePoolStateRelease: TraceEvents['pagePoolStateRelease'] | null = null
  pagePoolRelease: TraceEvents['pagePoolRelease'] | null = null
  pagePoolUpdateNid: TraceEvents['pagePoolUpdateNid'] | null = null
  sockExceedBufLimit: TraceEvents['sockExceedBufLimit'] | null = null
  sockRcvqueueFull: TraceEvents['sockRcvqueueFull'] | null = null
  inetSockSetState: TraceEvents['inetSockSetState'] | null = null
  udpFailQueueRcvSkb: TraceEvents['udpFailQueueRcvSkb'] | null = null
  tcpRcvSpaceAdjust: TraceEvents['tcpRcvSpaceAdjust'] | null = null
  tcpRetransmitSkb: TraceEvents['tcpRetransmitSkb'] | null = null
  napiPoll: TraceEvents['napiPoll'] | null = null
  netifRx: TraceEvents['netifRx'] | null = null
  netifReceiveSkb: TraceEvents['netifReceiveSkb'] | null = null
  netDevQueue: TraceEvents['netDevQueue'] | null = null
  netDevStartXmit: TraceEvents['netDevStartXmit'] | null = null
  netDevXmit: TraceEvents['netDevXmit'] | null = null
  dmaMap: TraceEvents['dmaMap'] | null = null
  dmaUnmap: TraceEvents['dmaUnmap'] | null = null
  dmaSyncSingleForCpu: TraceEvents['dmaSyncSingleForCpu'] | null = null
  dmaSyncSingleForDevice: TraceEvents['dmaSyncSingleForDevice'] | null = null
  swiotlbBounced: TraceEvents['swiotlbBounced'] | null = null
  iommuMap: TraceEvents['iommuMap'] | null = null
  iommuUnmap: TraceEvents['iommuUnmap'] | null = null
  copy: TraceEvents['copy'] | null = null
  printk: TraceEvents['printk'] | null = null
  warn: TraceEvents['warn'] | null = null
}

type AnyHook = (...args: never[]) => void

/**
 * Turns tracepoints on. Several subscribers of one tracepoint are called in the order they came.
 *
 * @returns the function that ends this subscription (in any order with others) and leaves the rest as they are.
 */
export function traceSubscribe(trace: Trace, handlers: Partial<TraceEvents>): () => void {
  const list = subscribers.get(trace) ?? []
  subscribers.set(trace, list)
  list.push(handlers)
  for (const name of Object.keys(handlers) as (keyof TraceEvents)[]) rewire(trace, list, name)
  return () => {
    const at = list.indexOf(handlers)
    if (at < 0) return
    list.splice(at, 1)
    for (const name of Object.keys(handlers) as (keyof TraceEvents)[]) rewire(trace, list, name)
  }
}

// Keyed by the machine's own Trace object, so nothing is shared between machines.
const subscribers = new WeakMap<Trace, Partial<TraceEvents>[]>()

function rewire(trace: Trace, list: Partial<TraceEvents>[], name: keyof TraceEvents): void {
  const hooks = list.map((handlers) => handlers[name] as AnyHook | undefined).filter((hook) => hook !== undefined)
  const slots = trace as unknown as Record<keyof TraceEvents, AnyHook | null>
  if (hooks.length <= 1) slots[name] = hooks[0] ?? null
  else
    slots[name] = (...args) => {
      for (const hook of hooks) hook(...args)
    }
}
