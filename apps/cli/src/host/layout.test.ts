/** The files of /proc as the model writes them beside those of the kernel that runs this test: the same layout, other numbers. */
import { kernelProfile } from '@netmem/base'
import { bootKernel, modelHost, SOCK_NONBLOCK, sysBind, sysListen, sysSocket } from '@netmem/kernel-model'
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, SockAddr } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { realHost } from './real-proc.js'

const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 64 << 20 })
const process = kernel.spawn()
for (const [family, type] of [
  [AF_INET, SOCK_STREAM],
  [AF_INET6, SOCK_STREAM],
  [AF_INET, SOCK_DGRAM],
  [AF_INET6, SOCK_DGRAM],
] as const) {
  const fd = sysSocket(process, family, type | SOCK_NONBLOCK)
  const address = new SockAddr()
  address.family = family
  address.port = 5000
  sysBind(process, fd, address)
  if (type === SOCK_STREAM) sysListen(process, fd, 8)
}
const model = modelHost(kernel)
const real = realHost()

/** Whether this kernel is the reference: only then names must be equal, too. */
const reference = (real.read('/proc/sys/kernel/osrelease') ?? '').startsWith('6.18.')

const lines = (text: string): string[] => text.split('\n')
/** A line with every number as `0`: what is left is its layout but for widths. */
const shape = (line: string): string =>
  line
    .replace(/[0-9a-f]{8,}/gi, '0')
    .replace(/\d+/g, '0')
    .replace(/ +/g, ' ')
    .trim()

const skipUnlessReal = (path: string, skip: (why: string) => void): string | null => {
  const text = real.read(path)
  if (text === null || !reference) skip(`${path} of Linux 6.18 cannot be read here`)
  return reference ? text : null
}

describe("the layout of /proc is this kernel's own", () => {
  it.each(['/proc/vmstat', '/proc/meminfo'])('%s has the same names in the same order', (path) => {
    const text = real.read(path)
    if (text === null || !reference) return
    // Lines that hang on the kernel's build, such as CMA, are not in the reference profile's.
    const names = (from: string): string[] => lines(from).map((line) => line.split(/[ :]/)[0]!)
    const ours = names(model.read(path)!)
    const theirs = names(text)
    expect(ours.filter((name) => theirs.includes(name))).toEqual(theirs.filter((name) => ours.includes(name)))
    expect(ours.filter((name) => !theirs.includes(name)).length).toBeLessThan(ours.length / 4)
    for (const line of lines(model.read(path)!)) expect(line).toMatch(/^$|^\S+ \d+$|^\S+: {2,}\d+( kB)?$/)
  })

  it.each([
    ['/proc/net/tcp', 1],
    ['/proc/net/tcp6', 1],
    ['/proc/net/udp', 1],
    ['/proc/net/udp6', 1],
    ['/proc/net/raw', 1],
    ['/proc/net/raw6', 1],
    ['/proc/net/unix', 1],
    ['/proc/net/packet', 1],
    ['/proc/net/ptype', 1],
    ['/proc/net/dev', 2],
    ['/proc/net/protocols', 1],
    ['/proc/slabinfo', 2],
  ] as const)('%s begins with the same line', (path, count) => {
    const text = real.read(path)
    if (text === null || !reference) return
    expect(lines(model.read(path)!).slice(0, count)).toEqual(lines(text).slice(0, count))
  })

  it('sockets and zones have the same columns, blanks and all', (context) => {
    const why = (words: string): void => context.skip(words)
    const zones = skipUnlessReal('/proc/zoneinfo', why)
    if (zones === null) return
    const kinds = (text: string): Set<string> => new Set(lines(text).map(shape))
    for (const kind of kinds(model.read('/proc/zoneinfo')!)) expect(kinds(zones)).toContain(kind)
    expect(lines(model.read('/proc/pagetypeinfo')!)[3]).toBe(lines(real.read('/proc/pagetypeinfo') ?? '')[3])
    for (const path of ['/proc/net/snmp', '/proc/net/netstat', '/proc/net/snmp6']) {
      const names = (text: string): string[] =>
        lines(text)
          .filter((line) => /[A-Za-z]/.test(line) && !/IcmpMsg|Icmp6(In|Out)Type/.test(line))
          .map((line) => line.replace(/\d+$/, ''))
          .filter((line) => !/: [-\d ]+$/.test(line))
      expect(names(model.read(path)!), path).toEqual(names(real.read(path) ?? ''))
    }
    expect(lines(model.read('/proc/net/tcp')!)[1]).toMatch(
      /^ {3}0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000 {5}0 {8}0 \d+ 1 [0-9a-f]{16} 100 0 0 10 0 *$/,
    )
    expect(lines(model.read('/proc/net/tcp')!)[1]).toHaveLength(149)
    expect(lines(model.read('/proc/net/udp')!)[1]).toHaveLength(127)
  })
})
