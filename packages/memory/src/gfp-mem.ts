/** Masks as text and back, and the questions asked about them, for the kernel that a machine runs. */
import type { Gfp } from '@netmem/base'
import { gfpFlagsText, gfpParseTable } from './gfp.js'
import type { Memory } from './memory.js'

/** Models `%pGg` and the tracepoints' `gfp_flags`: `GFP_KERNEL|__GFP_NOWARN`. */
export const gfpText = (mem: Memory, gfp: number): string => gfpFlagsText(mem.profile.gfp, gfp)

/** @returns the mask that a text such as `GFP_KERNEL|__GFP_NOWARN` names. @throws RangeError at an unknown name. */
export const gfpParse = (mem: Memory, text: string): Gfp => gfpParseTable(mem.profile.gfp, text)

/** Models `gfpflags_allow_blocking`: the caller may sleep, so it may reclaim. */
export const gfpflagsAllowBlocking = (mem: Memory, gfp: number): boolean => (gfp & mem.gfp.DIRECT_RECLAIM) !== 0
