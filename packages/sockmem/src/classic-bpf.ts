/**
 * The classic packet-filter machine: one accumulator, one index, sixteen words of scratch. Checking,
 * running, and the length that a program has after the kernel's conversion to its internal instruction set.
 */
import { fragAddr, fragLen, fragList, nrFrags, type SkBuff, skbHeadlen } from '@netmem/skbuff'

/** Models `BPF_MAXINSNS`. */
export const BPF_MAXINSNS = 4096
/** Models `BPF_MEMWORDS`. */
const SCRATCH_WORDS = 16

// Instruction classes and fields (include/uapi/linux/bpf_common.h).
const LD = 0
const LDX = 1
const ST = 2
const STX = 3
const ALU = 4
const JMP = 5
const RET = 6
const MISC = 7
const W = 0x00
const H = 0x08
const B = 0x10
const IMM = 0x00
const ABS = 0x20
const IND = 0x40
const MEM = 0x60
const LEN = 0x80
const MSH = 0xa0
const SRC_X = 0x08
const DIV = 0x30
const MOD = 0x90
/** Models `SKF_AD_OFF`: loads at this negative offset read facts about the packet instead of its bytes. */
const SKF_AD_OFF = -0x1000
const SKF_NET_OFF = -0x100000
const SKF_LL_OFF = -0x200000

/** Models `bpf_check_classic` (net/core/filter.c): jumps stay inside, scratch words exist, the end returns. */
export function bpfCheckClassic(insns: Int32Array): boolean {
  const count = insns.length >> 2
  for (let pc = 0; pc < count; pc += 1) {
    const code = insns[pc * 4]
    const k = insns[pc * 4 + 3]
    const kind = code & 7
    if (kind === JMP) {
      if (code >> 4 === 0) {
        if (k >>> 0 >= count - pc - 1) return false
      } else if (pc + insns[pc * 4 + 1] + 1 >= count || pc + insns[pc * 4 + 2] + 1 >= count) return false
    } else if (kind === ST || kind === STX || ((kind === LD || kind === LDX) && (code & 0xe0) === MEM)) {
      if (k >>> 0 >= SCRATCH_WORDS) return false
    } else if (kind === ALU && (code & SRC_X) === 0) {
      const op = code & 0xf0
      if ((op === DIV || op === MOD) && k === 0) return false
      if ((op === 0x60 || op === 0x70) && k >>> 0 >= 32) return false
    }
  }
  return (insns[(count - 1) * 4] & 7) === RET
}

/**
 * Models what `bpf_convert_filter` (net/core/filter.c) makes of a program: how many internal instructions it takes. Two
 * registers are cleared and the context is saved at the start; most instructions become one.
 */
export function bpfConvertedLength(insns: Int32Array): number {
  let total = 3
  for (let i = 0; i < insns.length; i += 4)
    total += convertedLengthOf(insns[i], insns[i + 1], insns[i + 2], insns[i + 3])
  return total
}

function convertedLengthOf(code: number, jt: number, jf: number, k: number): number {
  const kind = code & 7
  const mode = code & 0xe0
  if (kind === RET) return (code & 0x18) === 0x10 ? 1 : 2
  if (kind === ALU && (code & SRC_X) !== 0 && ((code & 0xf0) === DIV || (code & 0xf0) === MOD)) return 5
  if (kind === JMP && code >> 4 !== 0) {
    const wide = (code & SRC_X) === 0 && k < 0 ? 1 : 0
    return wide + (jt === 0 || jf === 0 ? 1 : 2)
  }
  if (kind === LDX && mode === MSH) return 6
  if ((kind === LD || kind === LDX) && (mode === ABS || mode === IND) && k >= SKF_AD_OFF && k < 0) return 2
  return 1
}

/**
 * Models `bpf_prog_run` of a classic program over a packet.
 *
 * @returns how many bytes to keep, as an unsigned number; 0 drops. A load beyond the packet drops too.
 */
export function bpfRunClassic(insns: Int32Array, skb: SkBuff): number {
  let a = 0
  let x = 0
  let scratch: Int32Array | null = null
  for (let pc = 0; ; pc += 1) {
    const at = pc * 4
    const code = insns[at]
    const k = insns[at + 3]
    const mode = code & 0xe0
    switch (code & 7) {
      case LD:
        if (mode === IMM) a = k
        else if (mode === MEM) a = scratch === null ? 0 : scratch[k]
        else if (mode === LEN) a = skb.len
        else {
          const value = load(skb, mode === IND ? (x + k) | 0 : k, code & 0x18)
          if (value === null) return 0
          a = value
        }
        break
      case LDX:
        if (mode === IMM) x = k
        else if (mode === MEM) x = scratch === null ? 0 : scratch[k]
        else if (mode === LEN) x = skb.len
        else if (mode === MSH) {
          const value = load(skb, k, B)
          if (value === null) return 0
          x = (value & 15) << 2
        }
        break
      case ST:
        scratch ??= new Int32Array(SCRATCH_WORDS)
        scratch[k] = a
        break
      case STX:
        scratch ??= new Int32Array(SCRATCH_WORDS)
        scratch[k] = x
        break
      case ALU: {
        const value = alu(code & 0xf0, a, (code & SRC_X) !== 0 ? x : k)
        if (value === null) return 0
        a = value
        break
      }
      case JMP: {
        const op = code & 0xf0
        if (op === 0) pc += k
        else pc += jump(op, a >>> 0, ((code & SRC_X) !== 0 ? x : k) >>> 0) ? insns[at + 1] : insns[at + 2]
        break
      }
      case RET:
        return ((code & 0x18) === 0x10 ? a : (code & 0x18) === SRC_X ? x : k) >>> 0
      case MISC:
        if ((code & 0xf8) === 0) x = a
        else a = x
        break
    }
  }
}

function load(skb: SkBuff, offset: number, size: number): number | null {
  if (offset < 0) {
    if (offset >= SKF_AD_OFF) return ancillary(skb, offset - SKF_AD_OFF)
    const base = offset >= SKF_NET_OFF ? SKF_NET_OFF : SKF_LL_OFF
    const header = base === SKF_NET_OFF ? skb.networkHeader : skb.macHeader
    offset = ((skb.head + header) | 0) - skb.data + (offset - base)
  }
  const bytes = size === W ? 4 : size === H ? 2 : 1
  if (offset < 0 || offset + bytes > skb.len) return null
  let value = 0
  for (let i = 0; i < bytes; i += 1) value = (value << 8) | byteAt(skb, offset + i)
  return bytes === 4 ? value : value >>> 0
}

// Filters read headers, which are linear; the rest of this function is for the odd one that looks further.
function byteAt(skb: SkBuff, offset: number): number {
  const { u8, skbs } = skb.env
  const linear = skbHeadlen(skb)
  if (offset < linear) return u8[(skb.data + offset) >>> 0]
  let left = offset - linear
  for (let i = 0; i < nrFrags(skb); i += 1) {
    if (left < fragLen(skb, i)) return u8[(fragAddr(skb, i) + left) >>> 0]
    left -= fragLen(skb, i)
  }
  for (let id = fragList(skb); id !== 0; id = skbs[id].next) {
    if (left < skbs[id].len) return byteAt(skbs[id], left)
    left -= skbs[id].len
  }
  return 0
}

/** Models the `SKF_AD_*` loads that need nothing but the packet. */
function ancillary(skb: SkBuff, what: number): number | null {
  switch (what) {
    case 0:
      return skb.protocol
    case 4:
      return skb.pktType
    case 8:
      return skb.dev
    case 20:
      return skb.mark
    case 24:
      return skb.queueMapping
    case 32:
      return skb.hash
    case 36:
      return skb.allocCpu
    default:
      return 0
  }
}

function alu(op: number, a: number, b: number): number | null {
  switch (op) {
    case 0x00:
      return (a + b) | 0
    case 0x10:
      return (a - b) | 0
    case 0x20:
      return Math.imul(a, b)
    case DIV:
      return b === 0 ? null : ((a >>> 0) / (b >>> 0)) | 0
    case 0x40:
      return a | b
    case 0x50:
      return a & b
    case 0x60:
      return a << b
    case 0x70:
      return (a >>> b) | 0
    case 0x80:
      return -a | 0
    case MOD:
      return b === 0 ? null : ((a >>> 0) % (b >>> 0)) | 0
    case 0xa0:
      return a ^ b
    default:
      return null
  }
}

function jump(op: number, a: number, b: number): boolean {
  if (op === 0x10) return a === b
  if (op === 0x20) return a > b
  if (op === 0x30) return a >= b
  return (a & b) !== 0
}
