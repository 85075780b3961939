/**
 * The report of `netmem replay --html`: one file that needs nothing else, in light and dark. Tables and bars are in
 * the markup; only the timeline is drawn by a script, with the library and the data inside the file.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { ReplayResult } from '../../replay/result.js'
import { bytesText, countText, durationText, memoryText, percentText } from '../format.js'
import { flame } from './flame.js'
import { barCell, key, scriptJson, section, table, text } from './markup.js'

const LISTED = 50
const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole)

export function replayHtml(result: ReplayResult): string {
  const { capture } = result
  const parts = [
    tiles(result),
    warnings(result),
    timeline(result),
    holders(result),
    truesize(result),
    drops(result),
    allocations(result),
    caches(result),
    sockets(result),
  ]
  const library = createRequire(import.meta.url)
  const file = (path: string): string => readFileSync(path, 'utf8')
  const asset = (name: string): string => file(assetPath(name))
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>${text(capture.file)} – netmem</title>
<style>${file(library.resolve('uplot/dist/uPlot.min.css'))}${asset('report.css')}</style></head>
<body><main>
<header><h1>${text(capture.file.replace(/^.*[/\\]/, ''))}</h1><span class="dim">${text(machineWords(result))}</span><button id="theme" type="button">light / dark</button></header>
${parts.join('\n')}
<p class="dim">Made by netmem, a model of how ${text(result.machine.kernel)} spends memory on packets.</p>
</main>
<script type="application/json" id="timeline-data">${scriptJson(timelineData(result))}</script>
<script>${file(library.resolve('uplot/dist/uPlot.iife.min.js'))}</script>
<script>${asset('report.js')}</script>
</body></html>
`
}

/** Beside the sources and beside the bundle, `assets` is one folder of the package. */
function assetPath(name: string): string {
  const here = fileURLToPath(import.meta.url)
  const root = here.slice(0, Math.max(here.lastIndexOf('/src/'), here.lastIndexOf('/dist/')))
  return `${root}/assets/${name}`
}

function machineWords({ machine, capture }: ReplayResult): string {
  const host = machine.host.length > 0 ? machine.host.join(', ') : 'no host'
  return `${machine.kernel}, ${memoryText(machine.memoryBytes)}, ${host}, reader ${machine.reader}, ring ${machine.ring}, ${durationText(capture.durationNs)} of traffic`
}

const tile = (value: string, about: string, mark = ''): string =>
  `<div class="tile"><b class="${mark}">${text(value)}</b><span class="dim">${text(about)}</span></div>`

function tiles({ packets, bytes, memory, leaks }: ReplayResult): string {
  const all = memory.find(({ kind }) => kind === 'all together')
  return `<div class="tiles">${[
    tile(countText(packets.read), `packets read, ${bytesText(bytes.wire)}`),
    tile(countText(packets.delivered), 'delivered', 'good'),
    tile(countText(packets.dropped), 'dropped', packets.dropped > 0 ? 'bad' : ''),
    tile(countText(packets.skipped), 'skipped'),
    tile(bytesText(all?.peakBytes ?? 0), 'most memory at a time'),
    tile(leaks === 0 ? 'nothing' : countText(leaks), 'leaked', leaks === 0 ? 'good' : 'bad'),
  ].join('')}</div>`
}

const warnings = ({ warnings: words }: ReplayResult): string =>
  words.length === 0
    ? ''
    : section('Warnings', '', `<ul>${words.map((word) => `<li>${text(word)}</li>`).join('')}</ul>`)

interface TimelineData {
  readonly times: readonly number[]
  readonly kinds: readonly string[]
  readonly peaks: readonly (readonly number[])[]
  readonly drops: readonly number[]
  /** Shown when asked for: what would dwarf the rest. */
  readonly hidden: readonly string[]
}

function timelineData({ timeline: { bucketNs, kinds, peaks, drops } }: ReplayResult): TimelineData {
  const points = peaks[0]?.length ?? 0
  const times = Array.from({ length: points }, (_, i) => (i * bucketNs) / 1e9)
  return { times, kinds, peaks, drops, hidden: ['receive ring', 'all together'] }
}

function timeline({ timeline: { drops }, packets }: ReplayResult): string {
  const dropped = packets.dropped > 0 && drops.some((count) => count > 0)
  return section(
    'Memory over time',
    'Largest value in each interval, by kind; click a name to show or hide it.',
    '<div id="memory-chart"></div>',
    dropped ? '<h2>Drops over time</h2><div id="drops-chart"></div>' : '<p class="dim">No packet was dropped.</p>',
  )
}

function holders({ memory }: ReplayResult): string {
  const shown = memory.filter(({ peakBytes }) => peakBytes > 0)
  const most = Math.max(...memory.map(({ peakBytes }) => peakBytes))
  return section(
    'Who holds it',
    'Most at a time, and what was in use when the capture was over.',
    table(
      [
        { title: 'kind' },
        { title: '' },
        { title: 'most', number: true },
        { title: 'at the end', number: true },
        { title: '' },
      ],
      shown.map(({ kind, about, peakBytes, endBytes }) => {
        const colour = `k${memory.findIndex((facts) => facts.kind === kind) % 7}`
        return [
          `${key(colour)}${text(kind)}`,
          `<span class="dim">${text(about)}</span>`,
          bytesText(peakBytes),
          bytesText(endBytes),
          barCell(share(peakBytes, most), colour),
        ]
      }),
    ),
  )
}

function truesize({ bytes: { truesizePeak, payloadAtPeak } }: ReplayResult): string {
  if (truesizePeak === 0) return ''
  const overhead = Math.max(0, truesizePeak - payloadAtPeak)
  return section(
    'Payload against truesize',
    'When sockets held most: what programs would read, and what they were charged above it (headers, rounding, descriptors).',
    `<div class="split"><i style="flex:${payloadAtPeak};background:var(--k0)"></i><i style="flex:${overhead};background:var(--k1)"></i></div>`,
    `<p>${key('k0')}payload ${bytesText(payloadAtPeak)} (${percentText(payloadAtPeak, truesizePeak)}) &nbsp; ${key('k1')}overhead ${bytesText(overhead)} &nbsp; truesize ${bytesText(truesizePeak)}</p>`,
  )
}

function drops({ limits, packets }: ReplayResult): string {
  if (limits.length === 0) return ''
  return section(
    'Drops, and what would change them',
    'By the kernel’s reason, with the limit behind it and the setting that moves it.',
    table(
      [
        { title: 'reason' },
        { title: 'packets', number: true },
        { title: 'the limit' },
        { title: 'what moves it' },
        { title: '' },
      ],
      limits.map(({ reason, packets: count, limit, setting }) => [
        `<b>${text(reason)}</b>`,
        countText(count),
        text(limit),
        text(setting ?? 'no setting'),
        barCell(share(count, packets.dropped || count), 'bad'),
      ]),
    ),
  )
}

function allocations({ allocations: list, copies, dma }: ReplayResult): string {
  return section(
    'Allocations',
    'Every box is as wide as its bytes: above what was allocated from, below the kernel function that asked. Hold the mouse over a box for numbers.',
    flame(list),
    `<p class="dim">Copies: ${bytesText(copies.bytes)} in ${countText(copies.calls)} calls. DMA: ${bytesText(dma.toMemoryBytes)} into memory, ${bytesText(dma.fromMemoryBytes)} out of it, ${countText(dma.maps)} mappings, ${countText(dma.syncs)} syncs.</p>`,
  )
}

function caches({ caches: list }: ReplayResult): string {
  if (list.length === 0) return ''
  return section(
    'Caches',
    'Share of requests served without asking the layer below.',
    table(
      [
        { title: 'cache' },
        { title: '' },
        { title: 'requests', number: true },
        { title: 'hit rate', number: true },
        { title: '' },
      ],
      list.map(({ cache, about, requests, hits }) => [
        text(cache),
        `<span class="dim">${text(about)}</span>`,
        countText(requests),
        percentText(hits, requests),
        barCell(share(hits, requests), 'k3'),
      ]),
    ),
  )
}

function sockets({ sockets: { udp, tcp, list } }: ReplayResult): string {
  if (list.length === 0) return ''
  const most = Math.max(1, ...list.map(({ rmemPeak }) => rmemPeak))
  return section(
    'Sockets',
    `${countText(udp)} of UDP, ${countText(tcp)} of TCP; those with most packets first.`,
    table(
      [
        { title: '' },
        { title: 'local' },
        { title: 'remote' },
        { title: 'packets in', number: true },
        { title: 'read', number: true },
        { title: 'written', number: true },
        { title: 'drops', number: true },
        { title: 'most unread', number: true },
        { title: 'of the buffer', number: true },
        { title: '' },
      ],
      list
        .slice(0, LISTED)
        .map((sock) => [
          sock.proto,
          text(sock.local),
          text(sock.remote ?? '*'),
          countText(sock.packetsIn),
          bytesText(sock.bytesRead),
          bytesText(sock.bytesWritten),
          sock.drops > 0 ? `<b class="bad">${countText(sock.drops)}</b>` : '0',
          bytesText(sock.rmemPeak),
          percentText(sock.rmemPeak, sock.rcvbuf),
          barCell(share(sock.rmemPeak, most), 'k6'),
        ]),
    ),
  )
}
