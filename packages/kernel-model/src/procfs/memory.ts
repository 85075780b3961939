/** /proc/slabinfo, buddyinfo and meminfo: memory by cache, by order and in all. */
import { buddyInfo, nrFreePages, slabInfo, totalramPages, vmStat, zoneInfo } from '@netmem/memory'
import type { Kernel } from '../kernel.js'

const PAGE_KB = 4

/** Models `slabinfo_show` (mm/slab_common.c): format 2.1, the newest cache first. @returns the file's text. */
export function slabinfoShow(kernel: Kernel): string {
  const lines = slabInfo(kernel.mem).map((cache) => {
    const right = (value: number, width: number): string => String(value).padStart(width)
    return (
      `${cache.name.padEnd(17)} ${right(cache.activeObjs, 6)} ${right(cache.numObjs, 6)} ${right(cache.objSize, 6)} ` +
      `${right(cache.objPerSlab, 4)} ${right(cache.pagesPerSlab, 4)} : tunables ${right(0, 4)} ${right(0, 4)} ${right(0, 4)} : ` +
      `slabdata ${right(cache.numSlabs, 6)} ${right(cache.numSlabs, 6)} ${right(0, 6)}`
    )
  })
  return `${[
    'slabinfo - version: 2.1',
    '# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> ' +
      '<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>',
    ...lines,
  ].join('\n')}\n`
}

/** Models `frag_show` (mm/vmstat.c): free blocks by order. @returns the text of /proc/buddyinfo. */
export function buddyinfoShow(kernel: Kernel): string {
  return buddyInfo(kernel.mem)
    .map(({ node, zone, free }) => {
      const counts = free.map((blocks) => String(blocks).padStart(6)).join(' ')
      return `Node ${node}, zone ${zone.padStart(8)} ${counts} \n`
    })
    .join('')
}

/** Models `si_mem_available` (mm/show_mem.c): pages that could be had without swapping. */
function siMemAvailable(kernel: Kernel, reclaimable: number): number {
  let reserved = 0
  let low = 0
  for (const zone of zoneInfo(kernel.mem)) {
    reserved += Math.min(zone.managed, Math.max(...zone.protection, 0) + zone.high)
    low += zone.low
  }
  const slab = reclaimable - Math.min(Math.floor(reclaimable / 2), low)
  return Math.max(0, nrFreePages(kernel.mem) - reserved + slab)
}

/** Lines of /proc/meminfo in their order; those that 6.1 has not are marked. */
const MEMINFO =
  'MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon) Active(file) ' +
  'Inactive(file) Unevictable Mlocked SwapTotal SwapFree Zswap Zswapped Dirty Writeback AnonPages Mapped Shmem ' +
  'KReclaimable Slab SReclaimable SUnreclaim KernelStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp ' +
  'CommitLimit Committed_AS VmallocTotal VmallocUsed VmallocChunk Percpu AnonHugePages ShmemHugePages ' +
  'ShmemPmdMapped FileHugePages FilePmdMapped Balloon* HugePages_Total HugePages_Free HugePages_Rsvd ' +
  'HugePages_Surp Hugepagesize Hugetlb DirectMap4k DirectMap2M DirectMap1G'
const VMALLOC_TOTAL_KB = 34359738367
const HUGE_PAGE_KB = 2048

/**
 * Models `meminfo_proc_show` (fs/proc/meminfo.c). Differs: what the model keeps no account of stands at 0, user memory
 * among it.
 *
 * @returns the file's text; kilobytes.
 */
export function meminfoProcShow(kernel: Kernel): string {
  const stat = vmStat(kernel.mem)
  const reclaimable = stat.nr_slab_reclaimable ?? 0
  const unreclaimable = stat.nr_slab_unreclaimable ?? 0
  const total = totalramPages(kernel.mem)
  const pages: Readonly<Record<string, number>> = {
    MemTotal: total,
    MemFree: nrFreePages(kernel.mem),
    MemAvailable: siMemAvailable(kernel, reclaimable),
    KReclaimable: reclaimable,
    Slab: reclaimable + unreclaimable,
    SReclaimable: reclaimable,
    SUnreclaim: unreclaimable,
    CommitLimit: Math.floor(total / 2),
    DirectMap4k: total,
  }
  const kilobytes: Readonly<Record<string, number>> = { VmallocTotal: VMALLOC_TOTAL_KB, Hugepagesize: HUGE_PAGE_KB }
  return MEMINFO.split(' ')
    .filter((name) => !name.endsWith('*') || kernel.profile.features.pcpFloatingHigh)
    .map((marked) => {
      const name = marked.replace('*', '')
      const value = kilobytes[name] ?? (pages[name] ?? 0) * PAGE_KB
      return `${`${name}:`.padEnd(16)}${String(value).padStart(8)}${name.startsWith('HugePages_') ? '' : ' kB'}\n`
    })
    .join('')
}
