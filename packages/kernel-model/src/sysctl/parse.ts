/**
 * How the kernel reads numbers that are written to a file of /proc/sys: as many as the variable holds, in
 * any of C's bases, stored one by one. A line that turns bad in the middle has already changed what stood
 * before the bad number; a line with too many numbers is fine, and the rest of it is ignored.
 */
import { ERRNO } from '@netmem/base'

const TMPBUFLEN = 22
const PAGE_SIZE = 4096
const isSpace = (char: string): boolean =>
  char === ' ' || char === '\t' || char === '\n' || char === '\v' || char === '\f' || char === '\r'
const isSeparator = (char: string): boolean => char === ' ' || char === '\t' || char === '\n'
const U64_MAX = (1n << 64n) - 1n

/** What a variable takes: signed or unsigned numbers in `[min, max]`, both included. */
export interface NumberRange {
  readonly min: bigint
  readonly max: bigint
  /** `unsigned` refuses every minus sign, even of zero. */
  readonly unsigned: boolean
  /** Only the low 32 bits count, read as a C int, before limits are looked at. */
  readonly wraps?: boolean
}

/** Models the ranges of `proc_dointvec_minmax` (kernel/sysctl.c): a C int between `min` and `max`. */
export const intRange = (min = -2147483648, max = 2147483647): NumberRange => ({
  min: BigInt(min),
  max: BigInt(max),
  unsigned: false,
})

/** Models the ranges of `proc_douintvec_minmax` and `proc_dou8vec_minmax`. */
export const unsignedRange = (min: number, max: number): NumberRange => ({
  min: BigInt(min),
  max: BigInt(max),
  unsigned: true,
})

/** Models the ranges of `proc_doulongvec_minmax` without limits: all of 64 bits. */
export const ulongRange: NumberRange = { min: 0n, max: U64_MAX, unsigned: true }

/** Where `procGetLong` stopped, its number, and whether there was one. */
interface Scan {
  at: number
  value: bigint
  negative: boolean
}

/**
 * Models `proc_get_long` (kernel/sysctl.c): one number in base 8, 10 or 16, ended by a separator or the end.
 *
 * @returns 0, or -EINVAL for what is not a number, is too long, or does not fit 64 bits.
 */
function procGetLong(text: string, scan: Scan): number {
  const token = text.slice(scan.at, scan.at + TMPBUFLEN - 1)
  scan.negative = token.startsWith('-') && token.length > 1
  const digits = token.slice(scan.negative ? 1 : 0)
  const match = /^(?:0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9][0-9]*))/.exec(digits)
  if (match === null) return -ERRNO.EINVAL
  const [whole, hex, octal, decimal] = match
  if (hex !== undefined) scan.value = BigInt(`0x${hex}`)
  else if (decimal !== undefined) scan.value = BigInt(decimal)
  else scan.value = octal === '' ? 0n : BigInt(`0o${octal}`)
  if (scan.value > U64_MAX) return -ERRNO.EINVAL
  const length = whole.length + (scan.negative ? 1 : 0)
  // A number that fills the kernel's buffer may go on behind it: such long ones are refused.
  if (length === TMPBUFLEN - 1) return -ERRNO.EINVAL
  scan.at += length
  if (scan.at < text.length && !isSeparator(text[scan.at]!)) return -ERRNO.EINVAL
  return 0
}

/**
 * Models the write side of `do_proc_dointvec` and `do_proc_doulongvec_minmax` (kernel/sysctl.c).
 *
 * @param text exactly what `write(2)` was given, at offset 0.
 * @param slots how many numbers the variable holds.
 * @param store called for each number accepted, in order, also when a later one is refused.
 * @returns 0, or -EINVAL. An empty text succeeds and stores nothing.
 */
export function procWriteVector(
  text: string,
  slots: number,
  range: NumberRange,
  store: (index: number, value: bigint) => void,
): number {
  if (text.length === 0) return 0
  const line = text.slice(0, PAGE_SIZE - 1)
  const scan: Scan = { at: 0, value: 0n, negative: false }
  let stored = 0
  for (; stored < slots; stored++) {
    while (scan.at < line.length && isSpace(line[scan.at]!)) scan.at += 1
    if (scan.at === line.length) break
    const err = procGetLong(line, scan)
    if (err < 0) return err
    if (range.unsigned && scan.negative) return -ERRNO.EINVAL
    const whole = scan.negative ? -scan.value : scan.value
    const value = range.wraps === true ? BigInt.asIntN(32, whole) : whole
    if (value < range.min || value > range.max) return -ERRNO.EINVAL
    store(stored, value)
  }
  return stored === 0 ? -ERRNO.EINVAL : 0
}
