import { ERRNO } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { intRange, type NumberRange, procWriteVector, ulongRange, unsignedRange } from './parse.js'

function write(text: string, slots = 1, range: NumberRange = intRange(1)): { err: number; stored: string[] } {
  const stored: string[] = []
  const err = procWriteVector(text, slots, range, (index, value) => {
    stored[index] = String(value)
  })
  return { err, stored }
}

const EINVAL = -ERRNO.EINVAL

describe('numbers written to /proc/sys', () => {
  it('are read in the bases of C, with blanks around them', () => {
    expect(write(' 5000\n')).toEqual({ err: 0, stored: ['5000'] })
    expect(write('0x2000')).toEqual({ err: 0, stored: ['8192'] })
    expect(write('010000')).toEqual({ err: 0, stored: ['4096'] })
  })

  it('are refused when they are not numbers, signed with a plus, or too long', () => {
    for (const text of ['abc', '5000x', '+5000', '1e6', '\n', '5,6', '99999999999999999999', '000000000000000000001'])
      expect(write(text), JSON.stringify(text)).toEqual({ err: EINVAL, stored: [] })
  })

  it('change nothing when the text is empty, which succeeds', () => {
    expect(write('')).toEqual({ err: 0, stored: [] })
  })

  it('fill only the first slots when there are few, and ignore the rest when there are many', () => {
    expect(write('150000 250000', 3)).toEqual({ err: 0, stored: ['150000', '250000'] })
    expect(write('1 2 3 4', 3)).toEqual({ err: 0, stored: ['1', '2', '3'] })
    expect(write('1 2 x', 2)).toEqual({ err: 0, stored: ['1', '2'] })
  })

  it('stay stored when a later one is refused', () => {
    expect(write('4096 abc 5000', 3)).toEqual({ err: EINVAL, stored: ['4096'] })
    expect(write('4096 87380 2147483648', 3)).toEqual({ err: EINVAL, stored: ['4096', '87380'] })
    expect(write('0 1 2', 3)).toEqual({ err: EINVAL, stored: [] })
  })

  it('reach the last of 64 bits in unsigned long vectors, and no further', () => {
    expect(write('18446744073709551615', 3, ulongRange)).toEqual({ err: 0, stored: ['18446744073709551615'] })
    expect(write('18446744073709551616', 3, ulongRange).err).toBe(EINVAL)
    expect(write('-1', 3, ulongRange).err).toBe(EINVAL)
  })

  it('respect the range at both ends', () => {
    expect(write('255', 1, unsignedRange(0, 255)).err).toBe(0)
    expect(write('256', 1, unsignedRange(0, 255)).err).toBe(EINVAL)
    expect(write('-31', 1, intRange(-31, 31)).stored).toEqual(['-31'])
    expect(write('-32', 1, intRange(-31, 31)).err).toBe(EINVAL)
  })
})
