/**
 * How long a classic program is once the kernel has turned it into its own instruction set: that is what a socket
 * pays for.
 */
import { ABS, AD, ALU, ancillaryOf, B, DIV, IND, JMP, LD, LDX, MOD, MSH, RET, SRC_X } from './bpf-numbers.js'

/** A load of packet bytes that calls for help when they are not at hand, without the parts that depend on it. */
const LOAD_BASE = 8
const INT16_MAX = 0x7fff
const JSET = 0x40

/** Models what `bpf_convert_filter` (net/core/filter.c) makes of a program: how many internal instructions it takes. */
export function bpfConvertedLength(insns: Int32Array): number {
  // Both registers are cleared and the context is saved; programs that load bytes also keep data and length at hand.
  let total = 3
  let loads = false
  for (let i = 0; i < insns.length; i += 4) {
    const code = insns[i]
    const mode = code & 0xe0
    const bytes = (code & 7) === LD && (mode === ABS || mode === IND) && ancillaryOf(code, insns[i + 3]) < 0
    if (bytes || ((code & 7) === LDX && mode === MSH)) loads = true
    total += convertedLengthOf(code, insns[i + 1], insns[i + 2], insns[i + 3])
  }
  return loads ? total + 4 : total
}

function convertedLengthOf(code: number, jt: number, jf: number, k: number): number {
  const kind = code & 7
  const mode = code & 0xe0
  if (kind === RET) return (code & 0x18) === 0x10 ? 1 : 2
  if (kind === ALU && (code & SRC_X) !== 0 && ((code & 0xf0) === DIV || (code & 0xf0) === MOD)) return 5
  if (kind === JMP && code >> 4 !== 0) {
    const wide = (code & SRC_X) === 0 && k < 0 ? 1 : 0
    // The kernel can turn a comparison round when the other way is the next instruction, a bit test it cannot.
    return wide + (jf === 0 || (jt === 0 && (code & 0xf0) !== JSET) ? 1 : 2)
  }
  if (kind === LDX && mode === MSH) return 6 + loadLength(B, k, false)
  if (kind === LD && (mode === ABS || mode === IND)) {
    const what = ancillaryOf(code, k)
    return what >= 0 ? ancillaryLength(what) : loadLength(code & 0x18, k, mode === IND)
  }
  return 1
}

/** Models `convert_bpf_ld_abs`: in place when the bytes are linear, by a call when not. */
function loadLength(size: number, k: number, indirect: boolean): number {
  const swap = size === B ? 0 : 1
  if (indirect) return LOAD_BASE + (k !== 0 ? 1 : 0)
  if (k < 0) return LOAD_BASE
  return LOAD_BASE + (k === 0 ? 4 : 5) + swap + (k > INT16_MAX ? 2 : 0)
}

/** Models `convert_bpf_extensions`. */
function ancillaryLength(what: number): number {
  switch (what) {
    case AD.PROTOCOL:
    case AD.PKTTYPE:
    case AD.VLAN_TPID:
      return 2
    case AD.IFINDEX:
    case AD.HATYPE:
    case AD.PAY_OFFSET:
    case AD.NLATTR:
    case AD.NLATTR_NEST:
    case AD.CPU:
    case AD.RANDOM:
      return 4
    case AD.VLAN_TAG_PRESENT:
      return 3
    default:
      return 1
  }
}
