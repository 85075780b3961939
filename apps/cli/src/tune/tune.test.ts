import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { kernelProfile } from '@netmem/base'
import { bootKernel, modelHost, type ProcHost } from '@netmem/kernel-model'
import { afterAll, describe, expect, it } from 'vitest'
import { apply, readSaved, rollback } from './apply.js'
import { machineSigns, sysctlText } from './machine-signs.js'
import { proposals } from './proposals.js'
import { fromWorkload } from './workload.js'

const folder = mkdtempSync(join(tmpdir(), 'netmem-tune-'))
afterAll(() => rmSync(folder, { recursive: true }))
let states = 0
const newState = (): string => join(folder, `state-${states++}`, 'tune.json')

const machine = (): ProcHost =>
  modelHost(bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 256 << 20, limits: 'memory' }))
/** The machine with one file saying something else. */
const saying = (host: ProcHost, path: string, change: (text: string) => string): ProcHost => ({
  ...host,
  read: (asked) => (asked === path ? change(host.read(path) ?? '') : host.read(asked)),
})
const wanted = (host: ProcHost) => proposals(host, machineSigns(host), null)

describe('proposals', () => {
  it('are none for a machine at rest', () => {
    expect(machineSigns(machine()).memoryBytes).toBeGreaterThan(200 << 20)
    expect(wanted(machine())).toEqual([])
  })

  it('name the counter that calls for them, and what they can cost', () => {
    const dropping = saying(machine(), '/proc/net/softnet_stat', (text) =>
      text.replace(/^(\w{8}) \w{8}/, '$1 0000007b'),
    )
    expect(wanted(dropping)).toMatchObject([
      {
        name: 'net.core.netdev_max_backlog',
        current: '1000',
        proposed: '2000',
        reason: expect.stringMatching(/^123 /),
      },
    ])
    const full = saying(machine(), '/proc/net/snmp', (text) => {
      const lines = text.split('\n')
      const at = lines.findIndex((line) => line.startsWith('Udp: In'))
      const column = lines[at]!.split(' ').indexOf('RcvbufErrors')
      const values = lines[at + 1]!.split(' ')
      values[column] = '9'
      lines[at + 1] = values.join(' ')
      return lines.join('\n')
    })
    expect(wanted(full).map(({ name, proposed }) => [name, proposed])).toEqual([['net.core.rmem_default', '425984']])
  })

  it('put right what cannot work: bytes in tcp_mem', () => {
    const host = machine()
    host.write('/proc/sys/net/ipv4/tcp_mem', '4096 87380 16777216')
    const [found] = wanted(host)
    expect(found).toMatchObject({ name: 'net.ipv4.tcp_mem', current: '4096 87380 16777216' })
    expect(Number(found!.proposed.split(' ')[2]) * 4096).toBeLessThan(256 << 20)
  })

  it('come from a captured workload, tried until nothing is dropped', () => {
    const path = fileURLToPath(new URL('../../captures/udp-stream.pcap', import.meta.url))
    const question = { path, reader: '3M', kernel: 'linux-6.18-x86_64' }
    const found = fromWorkload(machine(), question, 2 ** 34)
    expect(Number(found!.proposed)).toBeGreaterThan(212992)
    expect(found!.reason).toMatch(/with this it drops none$/)
    expect(fromWorkload(machine(), { ...question, reader: 'instant' }, 2 ** 34)).toBeNull()
  })
})

describe('apply and rollback', () => {
  const writes = [
    { name: 'net.core.rmem_max', value: '8388608' },
    { name: 'net.ipv4.tcp_rmem', value: '4096 131072 8388608' },
  ]

  it('write, verify, and restore what was there', () => {
    const [host, state] = [machine(), newState()]
    const before = writes.map(({ name }) => sysctlText(host, name))
    expect(apply(host, state, writes).every(({ problem }) => problem === null)).toBe(true)
    expect(sysctlText(host, 'net.core.rmem_max')).toBe('8388608')
    // A second round does not forget what the first one found.
    apply(host, state, [{ name: 'net.core.rmem_max', value: '16777216' }])
    expect(readSaved(state)!['net.core.rmem_max']).toBe(before[0])
    expect(rollback(host, state).every(({ problem }) => problem === null)).toBe(true)
    expect(writes.map(({ name }) => sysctlText(host, name))).toEqual(before)
    expect(existsSync(state)).toBe(false)
    expect(rollback(host, state)).toEqual([])
  })

  it('undo everything when the kernel refuses one, or makes something else of it', () => {
    for (const refused of [
      { name: 'net.core.wmem_max', value: '1' },
      { name: 'net.core.wmem_max', value: 'much' },
    ]) {
      const [host, state] = [machine(), newState()]
      const before = sysctlText(host, 'net.core.rmem_max')
      const results = apply(host, state, [...writes, refused])
      expect(results.at(-1)!.problem).toMatch(/EINVAL/)
      expect(sysctlText(host, 'net.core.rmem_max')).toBe(before)
    }
  })

  it('find their way back after a crash at any write', () => {
    for (let crashAt = 0; crashAt < writes.length; crashAt++) {
      const [host, state] = [machine(), newState()]
      const before = writes.map(({ name }) => sysctlText(host, name))
      let count = 0
      const crashing: ProcHost = {
        ...host,
        write(path, text) {
          if (count++ === crashAt) throw new Error('the power went out')
          return host.write(path, text)
        },
      }
      expect(() => apply(crashing, state, writes)).toThrow('the power went out')
      rollback(host, state)
      expect(writes.map(({ name }) => sysctlText(host, name))).toEqual(before)
    }
  })

  it('change nothing when what was there cannot be saved, and say what a damaged file is', () => {
    const host = machine()
    writeFileSync(join(folder, 'file'), '')
    expect(() => apply(host, join(folder, 'file', 'tune.json'), writes)).toThrow(/nothing was changed|part of the path/)
    expect(sysctlText(host, 'net.core.rmem_max')).not.toBe('8388608')
    writeFileSync(join(folder, 'damaged'), '{')
    expect(() => rollback(host, join(folder, 'damaged'))).toThrow(/is not what "netmem tune --apply" saved/)
    expect(readFileSync(join(folder, 'damaged'), 'utf8')).toBe('{')
  })
})
