/** Carries the page allocator's sysctls between the files and the allocator, which has its own copy. */
import { type Memory, setMinFreeKbytes } from '@netmem/memory'
import type { Sysctls } from '@netmem/sockmem'

const slot = (machine: Sysctls, name: string): Float64Array => machine.numbers(name, [0])

/** The marks that the allocator worked out at boot become what the files show. */
export function vmSysctlBoot(mem: Memory, machine: Sysctls): void {
  slot(machine, 'vm.min_free_kbytes')[0] = mem.minFreeKbytes
  slot(machine, 'vm.watermark_scale_factor')[0] = mem.watermarkScaleFactor
}

/** Models `min_free_kbytes_sysctl_handler` and `watermark_scale_factor_sysctl_handler` (mm/page_alloc.c). */
export function vmSysctlApply(mem: Memory, machine: Sysctls): void {
  mem.watermarkScaleFactor = slot(machine, 'vm.watermark_scale_factor')[0]!
  setMinFreeKbytes(mem, slot(machine, 'vm.min_free_kbytes')[0]!)
}
