/**
 * What the kernel asks of a classic program before it runs: known instructions, jumps that stay inside and go forward,
 * scratch words that were written on every way to where they are read, and an end that returns.
 */
import {
  ABS,
  ALU,
  ancillaryOf,
  BPF_MEMWORDS,
  DIV,
  JA,
  JMP,
  LD,
  LDX,
  LSH,
  MEM,
  MOD,
  RET,
  RSH,
  RVAL_A,
  SKF_AD_OFF,
  SRC_X,
  ST,
  STX,
} from './bpf-numbers.js'

/** Models the table of `chk_code_allowed` (net/core/filter.c). */
const ALLOWED = new Set([
  // LD, LDX, ST, STX
  ...[0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x80, 0x00, 0x60, 0x81, 0xb1, 0x01, 0x61, 0x02, 0x03],
  // ALU with a constant and with X, negation
  ...[0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0].flatMap((op) => [op | ALU, op | SRC_X | ALU]),
  0x84,
  // jumps, returns, TAX and TXA
  ...[0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07, 0x87],
])

/** Models `bpf_check_classic` (net/core/filter.c). @param insns code, jt, jf, k of each instruction. */
export function bpfCheckClassic(insns: Int32Array): boolean {
  const count = insns.length >> 2
  if (count === 0) return false
  for (let pc = 0; pc < count; pc += 1) if (!instructionOk(insns, pc, count)) return false
  const last = insns[(count - 1) * 4]
  return (last === RET || last === (RET | RVAL_A)) && checkLoadAndStores(insns, count)
}

function instructionOk(insns: Int32Array, pc: number, count: number): boolean {
  const code = insns[pc * 4]
  const k = insns[pc * 4 + 3]
  if (!ALLOWED.has(code)) return false
  const kind = code & 7
  if (kind === JMP) {
    if ((code & 0xf0) === JA) return k >>> 0 < count - pc - 1
    return pc + insns[pc * 4 + 1] + 1 < count && pc + insns[pc * 4 + 2] + 1 < count
  }
  if (usesScratch(code)) return k >>> 0 < BPF_MEMWORDS
  if (kind === LD && (code & 0xe0) === ABS) return k >= 0 || k < SKF_AD_OFF || ancillaryOf(code, k) >= 0
  if (kind !== ALU || (code & SRC_X) !== 0) return true
  const op = code & 0xf0
  if (op === DIV || op === MOD) return k !== 0
  return (op !== LSH && op !== RSH) || k >>> 0 < 32
}

function usesScratch(code: number): boolean {
  const kind = code & 7
  return kind === ST || kind === STX || ((kind === LD || kind === LDX) && (code & 0xe0) === MEM)
}

/** Models `check_load_and_stores`: a bit per scratch word, joined where jumps meet. */
function checkLoadAndStores(insns: Int32Array, count: number): boolean {
  const masks = new Uint16Array(count).fill(0xffff)
  let valid = 0
  for (let pc = 0; pc < count; pc += 1) {
    const code = insns[pc * 4]
    const k = insns[pc * 4 + 3]
    const kind = code & 7
    valid &= masks[pc]
    if (kind === ST || kind === STX) valid |= 1 << k
    else if (usesScratch(code)) {
      if ((valid & (1 << k)) === 0) return false
    } else if (kind === JMP) {
      if ((code & 0xf0) === JA) masks[pc + 1 + k] &= valid
      else {
        masks[pc + 1 + insns[pc * 4 + 1]] &= valid
        masks[pc + 1 + insns[pc * 4 + 2]] &= valid
      }
      valid = 0xffff
    }
  }
  return true
}
