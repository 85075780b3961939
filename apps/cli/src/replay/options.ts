/** What the user asks of a replay, checked before anything runs: every mistake is one line that says what would be right. */
import type { KernelProfile } from '@netmem/base'
import { type HostAddress, parseAddress } from '../capture/address.js'
import { InputError } from '../errors.js'
import { byteSize, factor, kernelOf, powerOfTwo, whole } from '../quantities.js'
import { DMA_KINDS, type DmaKind, DRIVERS, type DriverName } from './card.js'

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
  readonly driver: DriverName
  readonly dma: DmaKind
  /** Null: what the capture needs. */
  readonly mtu: number | null
  readonly speed: number
  readonly seed: number
}

const INT_MAX = 2147483647

/** @param given as commander parsed them. @throws InputError */
export function replayOptions(given: Record<string, unknown>): ReplayOptions {
  const text = (name: string): string => String(given[name])
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
    profile: kernelOf(text('kernel')),
    hosts,
    reader,
    readerText: reader.kind === 'rate' ? `${reader.bytesPerSec} B/s` : reader.kind,
    sysctl: ((given.sysctl as string[] | undefined) ?? []).map(parseSysctl),
    rcvbuf: size('rcvbuf'),
    sndbuf: size('sndbuf'),
    cpus: whole('--cpus', text('cpus'), 1, 64),
    memoryBytes: byteSize('--memory', text('memory'), 64 << 20, 4 * 1024 ** 3, 1024),
    ring: powerOfTwo('--ring', text('ring'), 16, 16384),
    driver: oneOf('--driver', given.driver, DRIVERS, 'page-pool'),
    dma: oneOf('--dma', given.dma, DMA_KINDS, 'direct'),
    mtu: given.mtu === undefined ? null : whole('--mtu', text('mtu'), 68, 65535),
    speed: factor('--speed', text('speed')),
    seed: whole('--seed', text('seed'), 0, 4294967295),
  }
}

/** @returns the one that was chosen, or `otherwise` when none was. */
function oneOf<T extends string>(name: string, given: unknown, names: Readonly<Record<T, string>>, otherwise: T): T {
  const chosen = given === undefined ? otherwise : String(given)
  if (!Object.hasOwn(names, chosen))
    throw new InputError(`${name} ${chosen}: expected one of ${Object.keys(names).join(', ')}`)
  return chosen as T
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
