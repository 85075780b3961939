/** The built command line, one process per test: what users and scripts see. */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { pcapBytes, temporaryFile } from './capture/fixtures.js'
import { version } from './version.js'

const bin = fileURLToPath(new URL('../bin/netmem.js', import.meta.url))
const dist = fileURLToPath(new URL('../dist/index.js', import.meta.url))
const capture = (name: string): string => fileURLToPath(new URL(`../captures/${name}`, import.meta.url))

interface Run {
  readonly status: number | null
  readonly out: string
  readonly err: string
}

function netmem(...args: string[]): Run {
  const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '' }
  const run = spawnSync(process.execPath, [bin, ...args], { encoding: 'utf8', env, timeout: 100_000, input: '' })
  return { status: run.status, out: run.stdout, err: run.stderr }
}

/** Bad input: exit code 2, nothing on standard output, one line on standard error. */
function refused(run: Run, line: RegExp): void {
  expect(run.err).toMatch(line)
  expect(run.err.trimEnd().split('\n')).toHaveLength(1)
  expect(run.err).not.toMatch(/ at .*\.js|Error:/)
  expect([run.status, run.out]).toEqual([2, ''])
}

describe.skipIf(!existsSync(dist))('the built netmem', () => {
  it('prints help with examples for every command, and its version', () => {
    const commands = [
      'replay',
      'verify',
      'run',
      'proc',
      'truesize',
      'fit',
      'explain',
      'diff',
      'size',
      'size tcp_mem',
      'tune',
      'monitor',
      'completion',
    ]
    for (const args of [['--help'], ...commands.map((command) => [...command.split(' '), '--help'])]) {
      const run = netmem(...args)
      expect(run.status).toBe(0)
      expect(run.out).toMatch(/Usage: netmem/)
      expect(run.out).toMatch(/Examples:\n {2}\$ .*netmem/)
      for (const line of run.out.split('\n')) expect(line).toMatch(/^.{0,110}$/)
    }
    expect(netmem('--version').out).toBe(`${version}\n`)
  })

  for (const [args, line] of [
    [[], /^netmem: no command given; "netmem --help"/],
    [['replai'], /^netmem: unknown command 'replai'/],
    [['replay'], /^netmem: missing required argument 'capture'/],
    [['replay', 'x.pcap', '--fast'], /^netmem: unknown option '--fast'/],
    [['replay', '/nowhere/x.pcap'], /^netmem: \/nowhere\/x\.pcap: no such file/],
    [['replay', tmpdir()], /is a directory, expected a file/],
    [['replay', 'x.pcap', '--ring', 'many'], /^netmem: --ring many: expected a power of two|whole number/],
    [['replay', '-'], /^netmem: -: standard input can be read only once/],
    [['verify', '/nowhere'], /^netmem: \/nowhere: no such file/],
    [['run', '/nowhere.yaml'], /^netmem: \/nowhere\.yaml: no such file/],
  ] as [string[], RegExp][])
    it(`refuses "netmem ${args.join(' ')}" with one line`, () => {
      refused(netmem(...args), line)
    })

  it('refuses empty, random and empty-of-packets captures with one line each', () => {
    refused(netmem('replay', temporaryFile(new Uint8Array(0))), /the file is empty, expected a pcap or pcapng capture/)
    refused(netmem('replay', temporaryFile(Uint8Array.of(1, 2, 3, 4, 5))), /not a capture \(starts with 01 02 03 04\)/)
    refused(netmem('replay', temporaryFile(pcapBytes([]))), /the capture holds no packets/)
    refused(netmem('replay', temporaryFile(pcapBytes([]).slice(0, 20))), /the file ends inside the pcap header/)
  })

  it.skipIf(process.getuid?.() === 0)('refuses a file that it may not read', () => {
    const path = temporaryFile(pcapBytes([]))
    chmodSync(path, 0)
    refused(netmem('replay', path), /permission denied/)
  })

  it('refuses sysctls that the kernel does not have, or values that it does not take', () => {
    refused(
      netmem('replay', capture('dns-burst.pcap'), '--sysctl', 'net.core.rmem_maximum=1'),
      /has no sysctl of that name/,
    )
    refused(netmem('replay', capture('dns-burst.pcap'), '--sysctl', 'net.core.rmem_max=lots'), /refuses this value/)
  })

  it('prints one JSON document and nothing else with --json', () => {
    const run = netmem('replay', capture('dns-burst.pcap'), '--json')
    expect([run.status, run.err]).toEqual([0, ''])
    const result = JSON.parse(run.out)
    expect(result.schema).toBe('netmem-replay/1')
    expect(result.packets.read).toBe(440)
    expect(result.leaks).toBe(0)
    for (const key of ['packets', 'bytes', 'drops', 'allocations', 'copies', 'dma', 'sockets', 'timeline', 'leaks'])
      expect(result).toHaveProperty(key)
  })

  it('prints a report that fits a terminal, without colours where NO_COLOR is set', () => {
    const run = netmem('replay', capture('web-download.pcap'))
    expect([run.status, run.err]).toEqual([0, ''])
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
    expect(run.out).not.toMatch(/\u001b/)
    for (const line of run.out.split('\n')) expect(line.length).toBeLessThanOrEqual(110)
    expect(run.out).toMatch(/nothing leaked/)
  })

  it('reports what was readable of a capture that is cut off, and says so', () => {
    const packet = { sec: 0, ns: 0, bytes: new Array(60).fill(0) }
    const run = netmem('replay', temporaryFile(pcapBytes([packet, packet]).slice(0, -10)))
    expect(run.status).toBe(0)
    expect(run.err).toMatch(/^netmem: warning: .* the file is cut off inside packet 2: 50 of its 60/)
    expect(run.out).toMatch(/1 read/)
  })

  it('says where a trace or a scenario is not what it should be', () => {
    const folder = mkdtempSync(join(tmpdir(), 'netmem-'))
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    refused(netmem('verify', file('bad.json', '{\n  "a": }\n')), /bad\.json:\d+:\d+: not JSON/)
    refused(netmem('verify', file('no-trace.json', '{}')), /no-trace\.json: .*schema/)
    refused(netmem('run', file('bad.yaml', 'steps:\n  - do: "x\n')), /bad\.yaml:\d+:\d+: not YAML/)
    refused(netmem('run', file('no-steps.yaml', 'name: x\n')), /no-steps\.yaml.*steps/)
    refused(
      netmem('run', file('bad-step.yaml', 'steps:\n  - do: udp_socket\n    id: a\n  - id: 1\n')),
      /bad-step\.yaml:4:\d+/,
    )
  })

  it('answers without a capture, quickly enough to be asked often', () => {
    expect(netmem('truesize', '1400').out).toMatch(/^1 400 B of payload cost the receiver 2 304 B/)
    expect(JSON.parse(netmem('fit', '--rcvbuf', '212992', '--len', '200', '--json').out).fits).toBe(166)
    expect(netmem('fit', '--rcvbuf', '4096', '--len', '200', '--count', '9').status).toBe(1)
    expect(netmem('size', 'nic-ring', '--rate', '10Gbit').out).toMatch(/ethtool -G eth0 rx 512/)
    expect(netmem('explain', 'TCP: out of memory -- consider tuning tcp_mem').status).toBe(1)
    expect(netmem('explain', 'UdpNoPorts').status).toBe(0)
  })

  it('watches a replay as it watches a machine', () => {
    const seen = JSON.parse(netmem('monitor', '--replay', capture('udp-stream.pcap'), '--json').out)
    expect(seen).toMatchObject({ schema: 'netmem-monitor/1', devices: [{ name: 'lo' }, { name: 'eth0' }] })
    refused(netmem('monitor', '--replay', '/nowhere.pcap', '--json'), /nowhere\.pcap: no such file/)
  })

  it('refuses what makes no sense of those in one line', () => {
    refused(netmem('truesize', 'many'), /the payload many: expected a whole number/)
    refused(netmem('truesize', '70000'), /at most 65507 bytes/)
    refused(netmem('truesize', '1', '--path', 'carrier-pigeon'), /expected one of udp-loopback, tap/)
    refused(netmem('fit', '--len', '1', '--path', 'unix', '--rcvbuf', '1'), /expected --sndbuf/)
    refused(netmem('fit'), /--len/)
    refused(netmem('explain', 'nothing of the kind'), /nothing recognised; expected ss -m/)
    refused(netmem('diff', capture('dns-burst.pcap'), 'x'), /dns-burst\.pcap: not JSON/)
    refused(netmem('size', 'nic-ring', '--rate', 'fast'), /expected a rate, such as 1Gbit/)
    refused(netmem('size', 'tcp_mem', '--connections', '5'), /--rtt|--rate/)
    refused(netmem('size', 'shoes'), /./)
    refused(netmem('replay', capture('dns-burst.pcap'), '--html', '/nowhere/x.html'), /cannot be written/)
  })
})
