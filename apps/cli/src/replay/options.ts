/** What the user asks of a replay, checked before anything runs: every mistake is one line that says what would be right. */
import { type KernelProfile, kernelProfiles } from '@netmem/base'
import { type HostAddress, parseAddress } from '../capture/address.js'
import { InputError } from '../errors.js'

/** How fast programs read: at once, never, or so many bytes a second. */
export type Reader =
  | { readonly kind: 'instant' }
  | { readonly kind: 'stalled' }
  | { readonly kind: 'rate'; readonly bytesPerSec: number }

export interface ReplayOptions {
  readonly profile: KernelProfile
  /** Empty: the address that receives most. */
  readonly hosts: readonly HostAddress[]
  readonly reader: Reader
  readonly readerText: string
  /** In the order given: whole values as text. */
  readonly sysctl: readonly (readonly [string, string])[]
  /** SO_RCVBUF and SO_SNDBUF as a program would pass them; null leaves the defaults. */
  readonly rcvbuf: number | null
  readonly sndbuf: number | null
  readonly cpus: number
  readonly memoryBytes: number
  readonly ring: number
  /** Null: what the capture needs. */
  readonly mtu: number | null
  readonly speed: number
  readonly seed: number
}

const INT_MAX = 2147483647

/** @param given as commander parsed them. @throws InputError */
export function replayOptions(given: Record<string, unknown>): ReplayOptions {
  const text = (name: string): string => String(given[name])
  const kernel = text('kernel')
  if (!Object.hasOwn(kernelProfiles, kernel))
    throw new InputError(
      `--kernel ${kernel}: no such kernel, expected one of ${Object.keys(kernelProfiles).join(', ')}`,
    )
  const hosts = ((given.host as string[] | undefined) ?? []).map((host) => {
    const address = parseAddress(host)
    if (address === null)
      throw new InputError(`--host ${host}: not an address, expected one such as 192.0.2.1 or 2001:db8::1`)
    return address
  })
  const reader = parseReader(text('reader'))
  const size = (name: string): number | null =>
    given[name] === undefined ? null : byteSize(`--${name}`, text(name), 0, INT_MAX)
  return {
    profile: kernelProfiles[kernel as keyof typeof kernelProfiles],
    hosts,
    reader,
    readerText: reader.kind === 'rate' ? `${reader.bytesPerSec} B/s` : reader.kind,
    sysctl: ((given.sysctl as string[] | undefined) ?? []).map(parseSysctl),
    rcvbuf: size('rcvbuf'),
    sndbuf: size('sndbuf'),
    cpus: whole('--cpus', text('cpus'), 1, 64),
    memoryBytes: byteSize('--memory', text('memory'), 64 << 20, 4 * 1024 ** 3, 1024),
    ring: powerOfTwo('--ring', text('ring'), 16, 16384),
    mtu: given.mtu === undefined ? null : whole('--mtu', text('mtu'), 68, 65535),
    speed: factor('--speed', text('speed')),
    seed: whole('--seed', text('seed'), 0, 4294967295),
  }
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value <= most))
    throw new InputError(`${name} ${text}: expected a whole number from ${least} to ${most}`)
  return value
}

function powerOfTwo(name: string, text: string, least: number, most: number): number {
  const value = whole(name, text, least, most)
  if ((value & (value - 1)) !== 0)
    throw new InputError(`${name} ${text}: expected a power of two from ${least} to ${most}`)
  return value
}

function factor(name: string, text: string): number {
  const value = /^(\d+\.?\d*|\.\d+)(e-?\d+)?$/i.test(text) ? Number(text) : Number.NaN
  if (!(value >= 1e-6 && value <= 1e6))
    throw new InputError(`${name} ${text}: expected a number from 0.000001 to 1000000`)
  return value
}

/** `65536`, `64k`, `1.5M`, `1G`; powers of `base` (1000 unless said otherwise; `Ki`, `Mi`, `Gi` are always 1024). */
function byteSize(name: string, text: string, least: number, most: number, base = 1000): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kKmMgG]?)(i?)(?:[bB]?)$/.exec(text)
  if (match === null) throw new InputError(`${name} ${text}: expected bytes, such as 65536, 64k or 1M`)
  const power = ' kmg'.indexOf(match[2] === '' ? ' ' : match[2].toLowerCase())
  const value = Math.round(Number(match[1]) * (match[3] === 'i' ? 1024 : base) ** power)
  if (!(value >= least && value <= most))
    throw new InputError(`${name} ${text}: expected from ${least} to ${most} bytes`)
  return value
}

function parseReader(text: string): Reader {
  if (text === 'instant' || text === 'stalled') return { kind: text }
  const rate = text.replace(/(\/s|ps)$/i, '')
  try {
    return { kind: 'rate', bytesPerSec: byteSize('--reader', rate, 1, 1e12) }
  } catch {
    throw new InputError(`--reader ${text}: expected instant, stalled, or bytes per second such as 500k or 10M`)
  }
}

function parseSysctl(text: string): readonly [string, string] {
  const at = text.indexOf('=')
  const name = text.slice(0, at).trim().replaceAll('/', '.')
  if (at < 1 || !/^[\w.-]+$/.test(name))
    throw new InputError(`--sysctl ${text}: expected name=value, such as net.core.rmem_max=4194304`)
  return [name, text.slice(at + 1).trim()]
}
