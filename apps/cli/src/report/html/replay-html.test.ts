import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { describe, expect, it } from 'vitest'
import { survey } from '../../capture/survey.js'
import { replayOptions } from '../../replay/options.js'
import { replayCapture } from '../../replay/replay.js'
import type { ReplayResult } from '../../replay/result.js'
import { replayHtml } from './replay-html.js'

const BROWSER = '/usr/bin/chromium'
const capture = (name: string): string => fileURLToPath(new URL(`../../../captures/${name}`, import.meta.url))

function replayed(name: string, reader: string): ReplayResult {
  const path = capture(name)
  const options = replayOptions({
    kernel: 'linux-6.18-x86_64',
    reader,
    cpus: '1',
    memory: '1G',
    ring: '512',
    speed: '1',
    seed: '1',
    // Whatever later options default to, the command line says; a report needs none of them.
    driver: 'page-pool',
  })
  const seen = survey(path)
  return replayCapture(path, options, [seen.busiest!], seen.mtu, () => {})
}

describe('the HTML report', () => {
  const result = replayed('udp-stream.pcap', '100k')

  it('counts every drop on its timeline, and no byte of payload as lost at the peak', () => {
    expect(result.timeline.drops.reduce((sum, count) => sum + count, 0)).toBe(result.packets.dropped)
    expect(result.packets.dropped).toBeGreaterThan(100)
    expect(result.bytes.payloadAtPeak).toBeGreaterThan(result.bytes.truesizePeak / 4)
  })

  it('is one file that asks for nothing else', () => {
    const html = replayHtml(result)
    expect(html.length).toBeLessThan(300_000)
    expect(html).not.toMatch(/(?:src|href)=|@import|url\(/)
    expect(html).toContain('SOCKET_RCVBUFF')
  })

  it('shows hostile names as text', () => {
    const html = replayHtml({
      ...result,
      capture: { ...result.capture, file: '</script><img src=x onerror=alert(1)>' },
    })
    expect(html).not.toContain('<img')
    const data = /id="timeline-data">([\s\S]*?)<\/script>/.exec(
      replayHtml({ ...result, timeline: { ...result.timeline, kinds: ['</script>'] } }),
    )
    expect(JSON.parse(data![1]!).kinds).toEqual(['</script>'])
  })

  it.skipIf(!existsSync(BROWSER))('draws its charts in a browser, light and dark, without an error', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'netmem-html-'))
    const browser = await chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox', '--disable-gpu'] })
    try {
      const path = join(folder, 'report.html')
      await writeFile(path, replayHtml(result))
      for (const colorScheme of ['light', 'dark'] as const) {
        const page = await browser.newPage({ colorScheme, viewport: { width: 1100, height: 900 } })
        const errors: string[] = []
        page.on('pageerror', (error) => errors.push(error.message))
        page.on('request', (request) => {
          if (!request.url().startsWith('file:') && !request.url().startsWith('data:')) errors.push(request.url())
        })
        await page.goto(pathToFileURL(path).href)
        expect(await page.locator('canvas').count()).toBe(2)
        const wide = await page.evaluate('document.documentElement.scrollWidth <= innerWidth')
        expect(wide).toBe(true)
        const before = await page.evaluate('getComputedStyle(document.body).backgroundColor')
        await page.click('#theme')
        expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).not.toBe(before)
        expect(errors).toEqual([])
        await page.close()
      }
    } finally {
      await browser.close()
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
