/** The files of memory groups as /sys/fs/cgroup has them, on hierarchy v1 (the tcp controller) and v2. */
import { type MemCgroup, memCgroupStatSock, PAGE_COUNTER_MAX } from '@netmem/sockmem'
import type { Kernel } from '../kernel.js'

/** What v1 shows for no limit: the largest number of whole pages that fits a signed 64-bit count of bytes. */
const V1_UNLIMITED = '9223372036854771712'

/** Lines of memory.stat (v2) in bytes; the model keeps account of kernel objects and sockets. */
const STAT =
  'anon file kernel kernel_stack pagetables sec_pagetables percpu sock vmalloc shmem file_mapped file_dirty ' +
  'file_writeback swapcached inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable ' +
  'slab_unreclaimable slab'

/** @returns the group's directory below the root of the hierarchy: groups have no names here, only numbers. */
export const cgroupPath = (memcg: MemCgroup): string =>
  `${memcg.parent === null ? '' : `${cgroupPath(memcg.parent)}/`}group${memcg.id}`

/**
 * Models the files of `memory_files` (v2) and of `mem_cgroup_legacy_files` (v1) that tell of sockets.
 *
 * @returns texts by file name.
 */
export function cgroupFiles(kernel: Kernel, memcg: MemCgroup): Record<string, string> {
  const page = kernel.profile.page_size
  return kernel.socks.memcgs.onDfl ? v2(kernel, memcg, page) : v1(memcg, page)
}

function v1({ tcpmem }: MemCgroup, page: number): Record<string, string> {
  const file = (name: string): string => `memory.kmem.tcp.${name}`
  return {
    [file('limit_in_bytes')]: `${tcpmem.max === PAGE_COUNTER_MAX ? V1_UNLIMITED : tcpmem.max * page}\n`,
    [file('usage_in_bytes')]: `${tcpmem.usage * page}\n`,
    [file('max_usage_in_bytes')]: `${tcpmem.watermark * page}\n`,
    [file('failcnt')]: `${tcpmem.failcnt}\n`,
  }
}

function v2(kernel: Kernel, memcg: MemCgroup, page: number): Record<string, string> {
  const { memory, events } = memcg
  const stat: Readonly<Record<string, number>> = {
    kernel: memcg.kmemBytes,
    sock: memCgroupStatSock(kernel.socks, memcg),
  }
  const max = memory.max === PAGE_COUNTER_MAX ? 'max' : String(memory.max * page)
  const lines = (list: readonly (readonly [string, number])[]): string =>
    list.map(([name, value]) => `${name} ${value}\n`).join('')
  return {
    'memory.current': `${memory.usage * page}\n`,
    'memory.peak': `${memory.watermark * page}\n`,
    'memory.min': '0\n',
    'memory.low': '0\n',
    'memory.high': 'max\n',
    'memory.max': `${max}\n`,
    'memory.events': lines(Object.entries(events)),
    'memory.events.local': lines(Object.entries(events)),
    'memory.stat': lines(STAT.split(' ').map((name) => [name, stat[name] ?? 0] as const)),
  }
}
