/** /proc/slabinfo, buddyinfo and meminfo: memory by cache, by order and in all. */
import { buddyInfo, nrFreePages, slabInfo, totalramPages, vmStat } from '@netmem/memory'
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

/**
 * Models `meminfo_proc_show` (fs/proc/meminfo.c). Differs: only the lines that the model keeps account of.
 *
 * @returns the file's text; kilobytes.
 */
export function meminfoProcShow(kernel: Kernel): string {
  const stat = vmStat(kernel.mem)
  const reclaimable = stat.nr_slab_reclaimable ?? 0
  const unreclaimable = stat.nr_slab_unreclaimable ?? 0
  const lines: readonly (readonly [string, number])[] = [
    ['MemTotal', totalramPages(kernel.mem)],
    ['MemFree', nrFreePages(kernel.mem)],
    ['Slab', reclaimable + unreclaimable],
    ['SReclaimable', reclaimable],
    ['SUnreclaim', unreclaimable],
  ]
  return lines.map(([name, pages]) => `${`${name}:`.padEnd(16)}${String(pages * PAGE_KB).padStart(8)} kB\n`).join('')
}
