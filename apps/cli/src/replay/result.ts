/** What a replay found: the document that `netmem replay --json` prints, and that the text report reads. */

export interface ReplayResult {
  readonly schema: 'netmem-replay/1'
  readonly capture: CaptureFacts
  readonly machine: MachineFacts
  readonly packets: PacketCounts
  readonly bytes: ByteCounts
  /** Packets by kernel drop reason (`RX_...`: dropped by the network card, which has counters and no reasons). */
  readonly drops: Readonly<Record<string, number>>
  /** The limit behind each drop reason and each wait, and the setting that moves it. */
  readonly limits: readonly LimitFacts[]
  /** Most memory by kind, in bytes, and what was in use when the capture was over. */
  readonly memory: readonly MemoryFacts[]
  /** What was taken from the allocators, by cache and by the kernel function that asked. */
  readonly allocations: readonly AllocationFacts[]
  readonly caches: readonly CacheFacts[]
  readonly copies: CopyFacts
  readonly dma: DmaFacts
  readonly sockets: SocketTotals
  readonly timeline: TimelineFacts
  /** Objects and pages that were not given back when all sockets were closed and the card was down. */
  readonly leaks: number
  readonly leaked: readonly string[]
  readonly warnings: readonly string[]
}

export interface CaptureFacts {
  readonly file: string
  readonly format: 'pcap' | 'pcapng'
  readonly linkTypes: readonly string[]
  readonly interfaces: number
  /** ISO 8601, or null for a capture without packets or times. */
  readonly start: string | null
  readonly durationNs: number
  /** Frames of which only a part was captured, and the bytes that were zeros for it. */
  readonly cutFrames: number
  readonly missingBytes: number
  /** Words when the file ends inside a record. */
  readonly cutOff: string | null
}

export interface MachineFacts {
  readonly kernel: string
  readonly host: readonly string[]
  /** Whether the host was chosen because it receives most. */
  readonly hostFound: boolean
  readonly cpus: number
  readonly memoryBytes: number
  readonly ring: number
  readonly driver: string
  readonly dma: string
  readonly mtu: number
  readonly reader: string
  readonly speed: number
  readonly rcvbuf: number | null
  readonly sndbuf: number | null
  readonly sysctl: Readonly<Record<string, string>>
}

export interface PacketCounts {
  readonly read: number
  readonly delivered: number
  readonly dropped: number
  readonly skipped: number
  /** How the packets of each kind ended; the numbers of each kind sum to its count. */
  readonly reasons: {
    readonly delivered: Readonly<Record<string, number>>
    readonly dropped: Readonly<Record<string, number>>
    readonly skipped: Readonly<Record<string, number>>
  }
  /** To the host and from it. */
  readonly in: number
  readonly out: number
  /** Frames that the modelled machine and its modelled peers sent of their own, not from the capture. */
  readonly synthesised: Readonly<Record<string, number>>
}

export interface ByteCounts {
  readonly wire: number
  readonly captured: number
  readonly payload: number
  readonly wireIn: number
  readonly wireOut: number
  readonly payloadIn: number
  readonly payloadOut: number
  /** Read by programs from sockets, written by programs into them. */
  readonly readByPrograms: number
  readonly writtenByPrograms: number
  /** Most truesize charged to sockets at one time, and the payload in it at that time. */
  readonly truesizePeak: number
  readonly payloadAtPeak: number
}

export interface LimitFacts {
  readonly reason: string
  readonly packets: number
  readonly limit: string
  readonly setting: string | null
}

export interface MemoryFacts {
  readonly kind: string
  readonly about: string
  readonly peakBytes: number
  readonly endBytes: number
}

export interface AllocationFacts {
  readonly cache: string
  readonly path: string
  readonly count: number
  readonly bytes: number
}

export interface CacheFacts {
  readonly cache: string
  readonly requests: number
  readonly hits: number
  readonly about: string
}

export interface CopyFacts {
  readonly bytes: number
  readonly calls: number
  readonly bySite: Readonly<Record<string, { readonly bytes: number; readonly calls: number }>>
}

export interface DmaFacts {
  readonly toMemoryBytes: number
  readonly fromMemoryBytes: number
  readonly maps: number
  readonly unmaps: number
  readonly syncs: number
  /** Transfers that went through the bounce pool, and their bytes. */
  readonly bounces: number
  readonly bouncedBytes: number
  /** Pages given to the IOMMU and taken from it. */
  readonly iommuMaps: number
  readonly iommuUnmaps: number
  /** One per receive queue whose driver has a page pool: the kernel's statistics. */
  readonly pools: readonly PoolFacts[]
}

export interface PoolFacts {
  /** Pages taken: from the cache, after a refill from the ring, from the page allocator. */
  readonly fast: number
  readonly refill: number
  readonly slow: number
  /** Pages that came back: to the cache, to the ring; and that left the pool. */
  readonly cached: number
  readonly ring: number
  readonly released: number
  /** Share of requests that the page allocator did not see, 0 to 1. */
  readonly hitRate: number
}

export interface SocketTotals {
  readonly udp: number
  readonly tcp: number
  /** Those with most packets first, at most as many as `listed` says. */
  readonly list: readonly SocketFacts[]
}

export interface SocketFacts {
  readonly proto: 'udp' | 'tcp'
  readonly local: string
  readonly remote: string | null
  readonly packetsIn: number
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly drops: number
  readonly rcvbuf: number
  readonly rmemPeak: number
  readonly rmemEnd: number
}

export interface TimelineFacts {
  readonly bucketNs: number
  readonly kinds: readonly string[]
  /** One row per kind: the largest value in each bucket, in bytes. */
  readonly peaks: readonly (readonly number[])[]
  /** Packets dropped in each bucket, by the card too. */
  readonly drops: readonly number[]
}
