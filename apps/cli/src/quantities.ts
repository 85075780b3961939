/** Quantities as people type them, checked where they are read: a mistake is one line that says what would be right. */
import { type KernelProfile, kernelProfiles } from '@netmem/base'
import { InputError } from './errors.js'

/** @throws InputError when no kernel of that name is built in. */
export function kernelOf(name: string): KernelProfile {
  if (!Object.hasOwn(kernelProfiles, name))
    throw new InputError(`--kernel ${name}: no such kernel, expected one of ${Object.keys(kernelProfiles).join(', ')}`)
  return kernelProfiles[name as keyof typeof kernelProfiles]
}

export function whole(name: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most))
    throw new InputError(`${name} ${text}: expected a whole number from ${least} to ${most}`)
  return value
}

export function powerOfTwo(name: string, text: string, least: number, most: number): number {
  const value = whole(name, text, least, most)
  if ((value & (value - 1)) !== 0)
    throw new InputError(`${name} ${text}: expected a power of two from ${least} to ${most}`)
  return value
}

export function factor(name: string, text: string): number {
  const value = /^(\d+\.?\d*|\.\d+)(e-?\d+)?$/i.test(text) ? Number(text) : Number.NaN
  if (!(value >= 1e-6 && value <= 1e6))
    throw new InputError(`${name} ${text}: expected a number from 0.000001 to 1000000`)
  return value
}

/** `65536`, `64k`, `1.5M`, `1G`; powers of `base` (1000 unless said otherwise; `Ki`, `Mi`, `Gi` are always 1024). */
export function byteSize(name: string, text: string, least: number, most: number, base = 1000): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kKmMgG]?)(i?)(?:[bB]?)$/.exec(text)
  if (match === null) throw new InputError(`${name} ${text}: expected bytes, such as 65536, 64k or 1M`)
  const power = ' kmg'.indexOf(match[2] === '' ? ' ' : match[2].toLowerCase())
  const value = Math.round(Number(match[1]) * (match[3] === 'i' ? 1024 : base) ** power)
  if (!(value >= least && value <= most))
    throw new InputError(`${name} ${text}: expected from ${least} to ${most} bytes`)
  return value
}

/** `40ms`, `1.5s`, `20us`: nanoseconds. A bare number counts milliseconds. */
export function durationNs(name: string, text: string, leastNs: number, mostNs: number): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)?$/.exec(text)
  if (match === null) throw new InputError(`${name} ${text}: expected a time, such as 40ms or 1.5s`)
  const unit = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9 }[match[2] ?? 'ms'] as number
  const value = Math.round(Number(match[1]) * unit)
  if (!(value >= leastNs && value <= mostNs))
    throw new InputError(`${name} ${text}: expected from ${leastNs / 1e6} ms to ${mostNs / 1e6} ms`)
  return value
}

/** `1Gbit`, `100Mbit/s`, `12.5MB/s`: bytes per second. Bits in powers of 1000, as links are sold. */
export function rateBytes(name: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(bit|b|B|byte|bytes)(?:ps|\/s)?$/.exec(text)
  if (match === null) throw new InputError(`${name} ${text}: expected a rate, such as 1Gbit, 100Mbit/s or 12.5MB/s`)
  const power = ' kmgt'.indexOf(match[2] === '' ? ' ' : match[2].toLowerCase())
  const value = (Number(match[1]) * 1000 ** power) / (match[3] === 'bit' || match[3] === 'b' ? 8 : 1)
  if (!(value >= 1 && value <= 1e12)) throw new InputError(`${name} ${text}: expected from 8 bit/s to 8 Tbit/s`)
  return value
}
