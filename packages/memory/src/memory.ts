/**
 * One machine's physical memory: the bytes, what describes them, and the slots that upper layers fill.
 * Everything in this package takes it as its first argument; two machines share nothing.
 */
import type { Cpu, KernelProfile, Trace } from '@netmem/base'
import type { FaultInjector } from './fault.js'
import type { GfpMasks } from './gfp.js'
import type { KmemCache } from './kmem-cache.js'
import type { AllocTracker } from './leaks.js'
import type { Pages } from './pages.js'
import { allocLists, freeLists, type PcpList } from './pcp-index.js'
import type { SlabCore } from './slab-core.js'
import type { VmEvents } from './vm-events.js'
import type { NumaNode, Zone } from './zone.js'

export interface MemoryParams {
  readonly profile: KernelProfile
  /** Physical memory: whole pages, 1 MiB to 4 GiB. */
  readonly bytes: number
  readonly cpus: number
  /** NUMA nodes; memory and CPUs are spread over them in equal runs. Default 1. */
  readonly nodes?: number
  readonly trace: Trace
  /** Where the DMA and DMA32 zones end, in bytes. Default: a share of memory, see `zoneLimits`. */
  readonly zoneEnds?: { readonly dma: number; readonly dma32: number }
  /** Kept for symmetry with the other layers; nothing here is random. */
  readonly seed?: number
}

export class Memory {
  readonly profile: KernelProfile
  readonly trace: Trace
  readonly gfp: GfpMasks
  readonly bytes: number
  readonly cpus: number
  /** Physical memory, user memory included. The host backs it only where it is touched. */
  readonly buffer: ArrayBuffer
  readonly u8: Uint8Array
  readonly u16: Uint16Array
  readonly i32: Int32Array
  readonly dv: DataView
  readonly pages: Pages
  /** All nodes' zones; empty ones too. */
  readonly zones: readonly Zone[]
  readonly nodes: readonly NumaNode[]
  /** Node of each CPU number. */
  readonly cpuNode: readonly number[]
  /** Zones to try, best first: index `node * 4 + highest zone`. */
  readonly zonelists: readonly (readonly Zone[])[]
  /** The same for `__GFP_THISNODE`. */
  readonly zonelistsThisNode: readonly (readonly Zone[])[]
  /**
   * Where the fast path looks, by `CPU * 64 + highest zone * 16 + list index`: the CPU's list in the zone it prefers.
   * A list of no zone, always empty, where that zone is on another node.
   */
  readonly allocLists: readonly PcpList[]
  /** Where a single page goes back, by `pages.block[pfn >>> 9] * cpus + CPU`. */
  readonly freeLists: readonly PcpList[]
  /** `gfpClassTable` of this kernel. */
  readonly gfpClass: Uint8Array
  /** Models `vm.min_free_kbytes`. */
  minFreeKbytes = 0
  /** Models `vm.watermark_scale_factor`: ten-thousandths of a zone between its marks. */
  watermarkScaleFactor = 10
  readonly vm: VmEvents

  /** Real slab caches by id; 0 is none. Merged names share one. */
  readonly slabCores: (SlabCore | null)[] = [null]
  /** Every name, in the order of creation. */
  readonly kmemCaches: KmemCache[] = []
  /** `family * 16 + class`: see `kmalloc.ts`. */
  readonly kmallocCaches: KmemCache[] = []
  /** Bits of a mask that give `prepByMask` something to do. */
  readonly prepMask: number
  /** Bits of a mask that select another family than the normal one. */
  readonly kmallocFamilyMask: number

  /** Makes allocations fail on purpose; null when none should. */
  fault: FaultInjector | null = null
  /** Remembers who allocated what is live; null when nobody asks. */
  tracker: AllocTracker | null = null
  /** Direct reclaim. Returns the pages it made free. Null: there is nothing to reclaim. */
  reclaim: ((cpu: Cpu, gfp: number, order: number) => number) | null = null
  /** Models `wakeup_kswapd`: the upper layer schedules reclaim. */
  kswapd: ((node: number, order: number) => void) | null = null
  /** Models `out_of_memory`. Returns whether a victim is giving memory back. Null: there is no victim. */
  oomKill: ((cpu: Cpu, gfp: number, order: number) => boolean) | null = null

  constructor(
    params: MemoryParams,
    gfp: GfpMasks,
    gfpClass: Uint8Array,
    pages: Pages,
    zones: readonly Zone[],
    nodes: readonly NumaNode[],
    zonelists: readonly (readonly Zone[])[],
    zonelistsThisNode: readonly (readonly Zone[])[],
    vm: VmEvents,
  ) {
    this.profile = params.profile
    this.trace = params.trace
    this.gfp = gfp
    this.prepMask = gfp.ZERO | gfp.COMP
    this.kmallocFamilyMask = gfp.DMA | gfp.RECLAIMABLE | gfp.ACCOUNT
    this.bytes = params.bytes
    this.cpus = params.cpus
    this.buffer = new ArrayBuffer(params.bytes)
    this.u8 = new Uint8Array(this.buffer)
    this.u16 = new Uint16Array(this.buffer)
    this.i32 = new Int32Array(this.buffer)
    this.dv = new DataView(this.buffer)
    this.pages = pages
    this.zones = zones
    this.nodes = nodes
    const cpuNode: number[] = new Array(params.cpus).fill(0)
    for (const node of nodes) for (const cpu of node.cpus) cpuNode[cpu] = node.id
    this.cpuNode = cpuNode
    this.zonelists = zonelists
    this.zonelistsThisNode = zonelistsThisNode
    this.allocLists = allocLists(zonelists, cpuNode)
    this.freeLists = freeLists(zones, params.cpus)
    this.gfpClass = gfpClass
    this.vm = vm
  }
}
