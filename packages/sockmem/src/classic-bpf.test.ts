import { describe, expect, it } from 'vitest'
import { bpfCheckClassic } from './bpf-check.js'
import { bpfConvertedLength } from './bpf-length.js'
import programs from './fixtures/classic-programs.json' with { type: 'json' }

// Each row: how long the program is after 6.18's conversion, 0 when the kernel refused it; then code, jt, jf, k of each
// instruction. Random programs, attached on a real kernel; the length is what option memory was charged for.
describe('classic programs on a real kernel', () => {
  it('are accepted and refused as there', () => {
    for (const [row, [length, ...insns]] of programs.entries())
      expect(bpfCheckClassic(Int32Array.from(insns)), `program ${row}`).toBe(length !== 0)
  })

  it('cost what they cost there', () => {
    for (const [row, [length, ...insns]] of programs.entries())
      if (length !== 0) expect(bpfConvertedLength(Int32Array.from(insns)), `program ${row}`).toBe(length)
  })
})
