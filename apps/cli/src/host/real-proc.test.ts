import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { kernelProfile } from '@netmem/base'
import { bootKernel, modelHost, monitorNetworkMemory, type ProcHost, tuneNetworkMemory } from '@netmem/kernel-model'
import { afterAll, describe, expect, it } from 'vitest'
import { realHost } from './real-proc.js'

const root = mkdtempSync(join(tmpdir(), 'netmem-host-'))
afterAll(() => rmSync(root, { recursive: true }))

const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 64 << 20 })
kernel.procfs.export((path, text) => {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
})

describe('the two hosts of the scripts', () => {
  it('say the same of one machine: the model, and its tree copied to disk', () => {
    expect(monitorNetworkMemory(realHost({ root }))).toBe(monitorNetworkMemory(modelHost(kernel)))
  })

  it('write nothing on a real machine unless asked', () => {
    const before = readFileSync(join(root, 'proc/sys/net/core/netdev_budget'), 'utf8')
    for (const { result } of tuneNetworkMemory(realHost({ root }))) expect(result).toBe('EROFS')
    expect(readFileSync(join(root, 'proc/sys/net/core/netdev_budget'), 'utf8')).toBe(before)
    const entries = tuneNetworkMemory(realHost({ root, writable: true }), [['net.core.netdev_budget', '600']])
    expect(entries).toEqual([{ name: 'net.core.netdev_budget', written: '600', result: '0', value: '600' }])
    expect(tuneNetworkMemory(realHost({ root, writable: true }), [['net.core.none', '1']])[0]!.result).toBe('ENOENT')
  })

  it('are read alike by the monitor on this machine, where it is Linux', (context) => {
    const host: ProcHost = realHost()
    if (host.read('/proc/net/sockstat') === null) return context.skip('no /proc/net/sockstat on this machine')
    const text = monitorNetworkMemory(host)
    expect(text).toMatch(
      /^=== Socket memory ===\nsockets: used \d+\nTCP: inuse \d+ orphan \d+ tw \d+ alloc \d+ mem \d+\n/,
    )
    expect(text).toMatch(/=== Device counters ===\n(.+: rx_dropped \d+ tx_dropped \d+ rx_fifo_errors \d+\n)*$/)
  })
})
