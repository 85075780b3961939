/** /proc/stat, loadavg, uptime, pressure, cgroups, sys/fs/file-nr and their like: the machine as a whole. */
import type { Kernel } from '../kernel.js'

const NS_PER_TICK = 10_000_000
const ticks = (kernel: Kernel): number => Math.floor(kernel.clock.nowNs / NS_PER_TICK)

/**
 * Models `show_stat` (fs/proc/stat.c). Differs: virtual time is not charged to processes, so all of it is idle time, and
 * interrupts are not counted.
 */
export function statShow(kernel: Kernel): string {
  const cpu = (name: string, idle: number): string => `${name} 0 0 0 ${idle} 0 0 0 0 0 0\n`
  const idle = ticks(kernel)
  return (
    cpu('cpu ', idle * kernel.cpus.length) +
    kernel.cpus.map(({ id }) => cpu(`cpu${id}`, idle)).join('') +
    `intr 0\nctxt 0\nbtime 0\nprocesses ${kernel.processes.length}\nprocs_running 1\nprocs_blocked 0\n` +
    `softirq ${new Array(11).fill(0).join(' ')}\n`
  )
}

/** Models `loadavg_proc_show`. */
export const loadavgShow = (kernel: Kernel): string =>
  `0.00 0.00 0.00 1/${Math.max(1, kernel.processes.length)} ${kernel.processes.at(-1)?.pid ?? 1}\n`

/** Models `uptime_proc_show`: virtual seconds since boot, and idle seconds of all CPUs. */
export function uptimeShow(kernel: Kernel): string {
  const seconds = ticks(kernel) / 100
  return `${seconds.toFixed(2)} ${(seconds * kernel.cpus.length).toFixed(2)}\n`
}

/** Models `version_proc_show`. */
export const versionShow = (kernel: Kernel): string => `Linux version ${kernel.profile.release} (netmem) #1 SMP\n`

/** Models `psi_show`: nothing ever waits for a CPU, for a disk or for memory here. */
export const psiShow = (): string =>
  ['some', 'full'].map((kind) => `${kind} avg10=0.00 avg60=0.00 avg300=0.00 total=0\n`).join('')

/** Models `proc_cgroupstats_show`: the one controller that there is. */
export const cgroupsShow = (kernel: Kernel): string => {
  const { memcgs } = kernel.socks
  return (
    '#subsys_name\thierarchy\tnum_cgroups\tenabled\n' +
    `memory\t${memcgs.onDfl ? 0 : 1}\t${memcgs.list.length + 1}\t1\n`
  )
}

/** Models `proc_nr_files`: open files, none free, and the most there may be by memory's size. */
export function fileNrShow(kernel: Kernel): string {
  let open = 0
  for (const process of kernel.processes) open += process.files.open().length
  return `${open}\t0\t9223372036854775807\n`
}
