import { describe, expect, it } from 'vitest'
import { InputError } from '../errors.js'
import { type ReplayOptions, replayOptions } from './options.js'

const defaults = {
  kernel: 'linux-6.18-x86_64',
  reader: 'instant',
  cpus: '1',
  memory: '1G',
  ring: '512',
  speed: '1',
  seed: '1',
}
const parse = (given: Record<string, unknown>): ReplayOptions => replayOptions({ ...defaults, ...given })

describe('replay options', () => {
  it('reads sizes with units, rates, factors and sysctls', () => {
    expect(parse({}).memoryBytes).toBe(1024 ** 3)
    expect(parse({ rcvbuf: '64k' }).rcvbuf).toBe(64000)
    expect(parse({ rcvbuf: '64KiB' }).rcvbuf).toBe(65536)
    expect(parse({ rcvbuf: '0' }).rcvbuf).toBe(0)
    expect(parse({ reader: '1.5M' }).reader).toEqual({ kind: 'rate', bytesPerSec: 1_500_000 })
    expect(parse({ reader: '500k/s' }).reader).toEqual({ kind: 'rate', bytesPerSec: 500_000 })
    expect(parse({ reader: 'stalled' }).reader).toEqual({ kind: 'stalled' })
    expect(parse({ speed: '0.5' }).speed).toBe(0.5)
    expect(parse({ host: ['192.0.2.1', '::1'] }).hosts.map((host) => host.version)).toEqual([4, 6])
    expect(parse({ sysctl: ['net.core.rmem_max=1', 'net/ipv4/tcp_rmem = 1 2 3'] }).sysctl).toEqual([
      ['net.core.rmem_max', '1'],
      ['net.ipv4.tcp_rmem', '1 2 3'],
    ])
  })

  for (const [given, line] of [
    [{ ring: '500' }, '--ring 500: expected a power of two from 16 to 16384'],
    [{ ring: '1e3' }, '--ring 1e3: expected a whole number from 16 to 16384'],
    [{ cpus: '0' }, '--cpus 0: expected a whole number from 1 to 64'],
    [{ cpus: '-1' }, '--cpus -1: expected a whole number from 1 to 64'],
    [{ speed: 'fast' }, '--speed fast: expected a number from 0.000001 to 1000000'],
    [{ speed: '0' }, '--speed 0: expected'],
    [{ reader: 'slow' }, '--reader slow: expected instant, stalled, or bytes per second such as 500k or 10M'],
    [{ rcvbuf: '1T' }, '--rcvbuf 1T: expected bytes, such as 65536, 64k or 1M'],
    [{ rcvbuf: '3G' }, '--rcvbuf 3G: expected from 0 to 2147483647 bytes'],
    [{ memory: '1M' }, '--memory 1M: expected from 67108864 to 4294967296 bytes'],
    [{ kernel: 'linux-5' }, '--kernel linux-5: no such kernel, expected one of linux-6.18-x86_64, linux-6.1-x86_64'],
    [{ host: ['example.org'] }, '--host example.org: not an address, expected one such as 192.0.2.1 or 2001:db8::1'],
    [{ sysctl: ['net.core.rmem_max'] }, '--sysctl net.core.rmem_max: expected name=value'],
    [{ sysctl: ['=1'] }, '--sysctl =1: expected name=value'],
    [{ mtu: '10' }, '--mtu 10: expected a whole number from 68 to 65535'],
  ] as const)
    it(`says what would be right instead of ${JSON.stringify(given)}`, () => {
      expect(() => parse(given)).toThrow(InputError)
      expect(() => parse(given)).toThrow(line)
    })
})
