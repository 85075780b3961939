import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { procCommand } from './proc.js'

const folder = mkdtempSync(join(tmpdir(), 'netmem-proc-'))
afterAll(() => rmSync(folder, { recursive: true }))

const scenario = join(folder, 'queue.yaml')
writeFileSync(
  scenario,
  'steps:\n  - {do: udp_socket, id: rx}\n  - {do: udp_socket, id: tx}\n  - {do: udp_connect, id: tx, to: rx}\n' +
    '  - {do: send_many, id: tx, len: 1, count: 3}\n',
)

async function run(path: string, options: Record<string, unknown>): Promise<string> {
  let printed = ''
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text)
    return true
  })
  try {
    await procCommand(path, options)
  } finally {
    spy.mockRestore()
  }
  return printed
}

describe('netmem proc', () => {
  it('writes the tree as it is after the last step, from the side of the process that made the calls', async () => {
    const out = join(folder, 'proc')
    const sysfs = join(folder, 'sys')
    const said = JSON.parse(await run(scenario, { out, sysfs, json: true }))
    expect(said).toMatchObject({ schema: 'netmem-proc/1', proc: out, sys: sysfs })
    expect(said.files).toBeGreaterThan(100)
    const read = (file: string): string => readFileSync(join(folder, file), 'utf8')
    expect(read('proc/net/sockstat')).toContain('UDP: inuse 2 mem 0\n')
    // Three datagrams of 832 bytes of truesize wait.
    expect(read('proc/net/udp')).toMatch(/ 07 00000000:000009C0 /)
    expect(read('proc/sys/net/ipv4/udp_rmem_min')).toBe('4096\n')
    expect(read('sys/class/net/lo/statistics/rx_packets')).toBe('3\n')
  })

  it('refuses a folder that has something in it, an input that is not there, and no folder at all', async () => {
    await expect(run(scenario, { out: folder })).rejects.toThrow(/is not empty/)
    await expect(run(join(folder, 'none.pcap'), { out: join(folder, 'x') })).rejects.toThrow(/none\.pcap: /)
    await expect(run(scenario, {})).rejects.toThrow(/--out is missing/)
  })
})
