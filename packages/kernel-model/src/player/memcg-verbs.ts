/** Verbs of memory groups: the v1 TCP controller on both kernels, hierarchy v2 where a trace makes one. */
import { type MemCgroup, memCgroupChargeKmem, memCgroupStatSock, PAGE_COUNTER_MAX } from '@netmem/sockmem'
import { StepError, zeroAnswer } from './answer.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

const GROUP = 'memcg'

/**
 * What the process takes of its group besides socket memory: objects of its sockets and files, pages it touches.
 * No trace shows the number; those that fill a group with UDP datagrams come out alike for 2 to 6 pages.
 */
const PROCESS_PAGES = 4

function groupOf(world: PlayerWorld): MemCgroup {
  const memcg = world.extra.get(GROUP) as MemCgroup | undefined
  if (memcg === undefined) throw new StepError('the trace has made no memory group yet')
  return memcg
}

/** Models `page_counter_memparse`: bytes as text or number to whole pages; "max" and -1 limit nothing. */
function pagesOf(world: PlayerWorld, value: unknown): number {
  if (value === 'max' || value === -1 || value === '-1') return PAGE_COUNTER_MAX
  const bytes = Number(value)
  if (!Number.isFinite(bytes)) throw new StepError(`"${value}" is not a number of bytes`)
  return Math.floor(bytes / world.kernel.profile.page_size)
}

export const memcgHandlers: VerbHandlers = {
  memcg: (world, args) => {
    const { memcgs } = world.kernel.socks
    const first = !world.extra.has(GROUP)
    if (first) world.extra.set(GROUP, memcgs.create(null, false))
    const err = memcgs.setTcpLimit(groupOf(world), pagesOf(world, args.limit))
    if (first) world.process.setMemcg(groupOf(world))
    return zeroAnswer(err)
  },

  memcg_read: (world, args) => {
    const { tcpmem } = groupOf(world)
    const page = world.kernel.profile.page_size
    const files: Readonly<Record<string, number>> = {
      usage_in_bytes: tcpmem.usage * page,
      max_usage_in_bytes: tcpmem.watermark * page,
      failcnt: tcpmem.failcnt,
      limit_in_bytes: tcpmem.max * page,
    }
    const value = files[args.file as string]
    if (value === undefined) throw new StepError(`no file "${args.file}"; there are ${Object.keys(files).join(', ')}`)
    return { value }
  },

  cg: (world, args) => {
    const { memcgs } = world.kernel.socks
    const memcg = memcgs.create(null, true)
    world.extra.set(GROUP, memcg)
    if (args.max !== undefined && args.max !== null) memcgs.setMax(memcg, pagesOf(world, args.max))
    return { ret: 0 }
  },

  cg_enter: (world) => {
    const { kernel, process } = world
    const memcg = groupOf(world)
    process.setMemcg(memcg)
    memCgroupChargeKmem(process.cpu, kernel.socks, memcg, PROCESS_PAGES * kernel.profile.page_size)
    return { ret: 0 }
  },

  cg_leave: (world) => {
    world.process.setMemcg(null)
    return { ret: 0 }
  },

  cg_set: (world, args) => {
    if (args.file !== 'memory.max') throw new StepError(`writing "${args.file}" is not modelled; memory.max is`)
    world.kernel.socks.memcgs.setMax(groupOf(world), pagesOf(world, args.value))
    return { ret: 0 }
  },

  cg_sock: (world) => ({ sock: memCgroupStatSock(world.kernel.socks, groupOf(world)) }),

  cg_events: (world) => ({ ...groupOf(world).events }),

  cg_current: (world) => ({ value: groupOf(world).memory.usage * world.kernel.profile.page_size }),
}
