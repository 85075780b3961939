/** `vm.min_free_kbytes` changed on a running machine. */
import type { Memory } from './memory.js'
import { perCpuPages, setupPerZoneWmarks } from './watermarks.js'

/**
 * Models `min_free_kbytes_sysctl_handler`: new watermarks for all zones, and new limits for the per-CPU lists.
 *
 * @param kbytes kibibytes, at least 1.
 */
export function setMinFreeKbytes(mem: Memory, kbytes: number): void {
  mem.minFreeKbytes = kbytes
  setupPerZoneWmarks(mem.zones, kbytes, mem.watermarkScaleFactor)
  for (const zone of mem.zones) {
    const sharers = mem.nodes[zone.node]!.cpus.length || mem.cpus
    for (const pcp of zone.pcp) {
      const fresh = perCpuPages(zone, sharers, pcp.floating)
      pcp.highMin = fresh.highMin
      pcp.highMax = fresh.highMax
      pcp.high = Math.min(Math.max(pcp.high, pcp.highMin), pcp.highMax)
    }
  }
}
