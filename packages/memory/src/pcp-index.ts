/** Tables that lead from a CPU and a mask, or a page, to the per-CPU list in one step. Made once, at boot. */
import { type PcpList, PerCpuPages } from './per-cpu-pages.js'
import { Zone } from './zone.js'
import { MIGRATE_MOVABLE, MIGRATE_PCPTYPES, ZONE_NORMAL } from './zone-types.js'

export type { PcpList }

/** @returns lists that stay empty and never take a page: they send every caller the long way. */
function nowhere(): readonly PcpList[] {
  const zone = new Zone(0, 0, ZONE_NORMAL, 0, 0)
  const pcp = new PerCpuPages(zone, 1, 0, 0, false, 0)
  pcp.zoneFlags = -1
  return pcp.lists
}

/** @returns `Memory.allocLists`. @param zonelists by `node * 4 + highest zone`. */
export function allocLists(zonelists: readonly (readonly Zone[])[], cpuNode: readonly number[]): PcpList[] {
  const none = nowhere()
  return cpuNode.flatMap((node, cpu) =>
    [0, 1, 2, 3].flatMap((highest) => {
      const zone = zonelists[node * 4 + highest]![0]!
      const lists = zone.node === node && zone.managed > 0 ? zone.pcp[cpu]!.lists : none
      return Array.from({ length: 16 }, (_, index) => lists[index] ?? none[0]!)
    }),
  )
}

/** @returns `Memory.freeLists`. Pages of HIGHATOMIC blocks rest with the movable ones; isolated ones rest nowhere. */
export function freeLists(zones: readonly Zone[], cpus: number): PcpList[] {
  const none = nowhere()
  return zones.flatMap((zone) =>
    Array.from({ length: 8 * cpus }, (_, at) => {
      const type = Math.floor(at / cpus)
      if (type > MIGRATE_PCPTYPES) return none[0]!
      return zone.pcp[at % cpus]!.lists[type === MIGRATE_PCPTYPES ? MIGRATE_MOVABLE : type]!
    }),
  )
}
