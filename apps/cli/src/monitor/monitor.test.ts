import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { kernelProfile } from '@netmem/base'
import { bootKernel, modelHost } from '@netmem/kernel-model'
import { render } from 'ink-testing-library'
import { createElement } from 'react'
import { describe, expect, it } from 'vitest'
import { realHost } from '../host/real-proc.js'
import { screen } from './lines.js'
import { Live } from './live.js'
import { serve } from './serve.js'
import { type Snapshot, snapshot } from './snapshot.js'

const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), memoryBytes: 64 << 20 })
const host = modelHost(kernel)
let clock = 0
function look(): Snapshot {
  clock += 1000
  return snapshot(host, clock)
}
const textOf = (history: readonly Snapshot[]): string =>
  screen(history)
    .map(({ text }) => text)
    .join('\n')

describe('a look', () => {
  it('reads the model: limits, caches, devices, counters', () => {
    const seen = look()
    expect(seen.protocols.map(({ name }) => name)).toEqual(['TCP', 'UDP'])
    expect(seen.protocols.every(({ low, pressure, high }) => low > 0 && low <= pressure && pressure <= high)).toBe(true)
    expect(seen.slabs.map(({ name }) => name)).toContain('skbuff_head_cache')
    expect(seen.devices.map(({ name }) => name)).toEqual(['lo'])
    expect(seen.counters.UdpRcvbufErrors).toBe(0)
  })

  it('reads this machine where it is Linux', (context) => {
    const real = realHost()
    if (real.read('/proc/net/sockstat') === null) return context.skip('no /proc/net/sockstat on this machine')
    const seen = snapshot(real, 0)
    expect(seen.memoryBytes).toBeGreaterThan(0)
    expect(seen.devices.length).toBeGreaterThan(0)
  })
})

describe('the screen', () => {
  it('shows rates from two looks, and marks what is over a limit', () => {
    const first = look()
    const second: Snapshot = {
      ...look(),
      softnet: { processed: first.softnet.processed + 5000, dropped: 7, squeezed: 0 },
      protocols: first.protocols.map((protocol) => ({ ...protocol, pages: protocol.high })),
      counters: { ...first.counters, UdpRcvbufErrors: 3 },
    }
    const text = textOf([first, second])
    expect(text).toMatch(/processed 5 000\/s {2}dropped 7\.0\/s/)
    expect(text).toMatch(/UdpRcvbufErrors +3 +3\.0\/s/)
    const marked = screen([first, second]).filter(({ mark }) => mark === 'over')
    expect(marked).toHaveLength(4)
  })

  it('takes a counter that fell for a reset, not for a negative rate', () => {
    const first = { ...look(), softnet: { processed: 100, dropped: 0, squeezed: 0 } }
    expect(textOf([first, { ...look(), softnet: { processed: 5, dropped: 0, squeezed: 0 } }])).not.toMatch(/-\d/)
  })

  it('redraws at its interval, scrolls, and ends at q', async () => {
    let looks = 0
    const counting = (): Snapshot => {
      looks += 1
      return look()
    }
    const live = render(createElement(Live, { look: counting, intervalMs: 20, coloured: false }))
    expect(live.lastFrame()).toMatch(/netmem monitor {2}Linux 6\.18/)
    await sleep(200)
    expect(looks).toBeGreaterThan(2)
    live.stdin.write('j')
    await sleep(50)
    expect(live.lastFrame()).toMatch(/q quits, arrows scroll \(2 to /)
    live.stdin.write('q')
    await sleep(100)
    const seen = looks
    await sleep(100)
    expect(looks).toBe(seen)
    live.unmount()
  })
})

describe('metrics', () => {
  it('are served on loopback with the values of the machine, beside a health check', async () => {
    const server = await serve(look, '127.0.0.1', 0)
    try {
      const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      expect(await (await fetch(`${base}/healthz`)).text()).toBe('ok\n')
      const text = await (await fetch(`${base}/metrics`)).text()
      const { protocols } = look()
      expect(text).toContain(
        `netmem_protocol_memory_limit_bytes{protocol="TCP",limit="high"} ${protocols[0]!.high * 4096}`,
      )
      expect(text).toContain('netmem_counter{name="UdpRcvbufErrors"} 0')
      expect(text).toMatch(/# HELP netmem_protocol_memory_bytes .+\n# TYPE netmem_protocol_memory_bytes gauge/)
      expect((await fetch(`${base}/other`)).status).toBe(404)
      expect((await fetch(`${base}/metrics`, { method: 'POST' })).status).toBe(405)
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })

  it('pass the check of Prometheus’ own tool where it is installed', async (context) => {
    if (!existsSync('/usr/bin/promtool')) return context.skip('promtool is not installed')
    const { metrics } = await import('./serve.js')
    const run = spawnSync('promtool', ['check', 'metrics'], { input: await metrics(look).metrics(), encoding: 'utf8' })
    expect([run.status, run.stderr]).toEqual([0, ''])
  })
})
