/** The report of `netmem replay` for people: about one screen, the answer first, every number with its unit. */

import type { ReplayResult } from '../replay/result.js'
import { colors } from './colors.js'
import {
  bytesText,
  columns,
  countText,
  durationText,
  memoryText,
  percentText,
  plural,
  sparkline,
  wrapped,
} from './format.js'

const CURVE = 36

/** The whole report, in lines of at most about 96 columns. */
export function replayText(result: ReplayResult): string {
  const blocks = [
    heading(result),
    packets(result),
    memory(result),
    allocations(result),
    sockets(result),
    limits(result),
    verdict(result),
  ]
  return blocks
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')
}

const title = (words: string): string => colors.bold(words)

function heading({ capture, machine, packets: { read } }: ReplayResult): string[] {
  const links = capture.linkTypes.length > 0 ? ` ${capture.linkTypes.join(' and ')},` : ''
  const found = machine.hostFound ? ' (receives most; --host chooses another)' : ''
  const host =
    machine.host.length === 0 ? 'no IP address in the capture' : `host ${colors.cyan(machine.host.join(', '))}${found}`
  const buffers = [
    machine.rcvbuf === null ? '' : `, SO_RCVBUF ${countText(machine.rcvbuf)} B`,
    machine.sndbuf === null ? '' : `, SO_SNDBUF ${countText(machine.sndbuf)} B`,
    machine.speed === 1 ? '' : `, ${machine.speed} times as fast as captured`,
    ...Object.entries(machine.sysctl).map(([name, value]) => `, ${name}=${value}`),
  ].join('')
  return [
    `${title(capture.file)}  ${capture.format},${links} ${plural(read, 'packet')} in ${durationText(capture.durationNs)}`,
    `${host}, ${machine.kernel}, ${plural(machine.cpus, 'CPU')}, ${memoryText(machine.memoryBytes)}, ring ${machine.ring}, MTU ${countText(machine.mtu)} B`,
    `programs read ${readerWords(machine.reader)}, driver ${machine.driver}${machine.dma === 'direct' ? '' : ` behind ${machine.dma}`}${buffers}`,
  ]
}

function readerWords(reader: string): string {
  if (reader === 'instant') return 'at once'
  if (reader === 'stalled') return 'nothing at all'
  return `${bytesText(Number.parseInt(reader, 10))} per second each`
}

function packets({ packets: counts, bytes, capture }: ReplayResult): string[] {
  const paint = counts.dropped > 0 ? colors.red : colors.green
  const rows = [
    [
      '  in',
      plural(counts.in, 'packet'),
      bytesText(bytes.wireIn),
      `${bytesText(bytes.payloadIn)} payload`,
      `${bytesText(bytes.readByPrograms)} read by programs`,
    ],
    [
      '  out',
      plural(counts.out, 'packet'),
      bytesText(bytes.wireOut),
      `${bytesText(bytes.payloadOut)} payload`,
      `${bytesText(bytes.writtenByPrograms)} written by programs`,
    ],
  ]
  const lines = [
    `${title('Packets')}  ${countText(counts.read)} read = ${colors.green(`${countText(counts.delivered)} delivered`)} + ${paint(`${countText(counts.dropped)} dropped`)} + ${countText(counts.skipped)} skipped`,
    ...columns(rows, [1, 2]),
  ]
  lines.push(...reasonLines('delivered', counts.reasons.delivered))
  lines.push(...reasonLines('skipped', counts.reasons.skipped))
  lines.push(...reasonLines('added', counts.synthesised))
  if (capture.cutFrames > 0)
    lines.push(
      `  ${plural(capture.cutFrames, 'frame')} cut by the snap length: ${bytesText(capture.missingBytes)} were not captured and are zeros here`,
    )
  return lines
}

/** One line for a few reasons, one line each for long ones. */
function reasonLines(word: string, reasons: Readonly<Record<string, number>>): string[] {
  const parts = Object.entries(reasons)
    .filter(([, count]) => count > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([reason, count]) => `${countText(count)} ${reason}`)
  const lines: string[] = []
  let line = ''
  for (const part of parts) {
    const label = lines.length === 0 ? `  ${word.padEnd(10)}` : ' '.repeat(12)
    if (line === '') line = `${label}${part}`
    else if (line.length + part.length + 2 <= 94) line += `, ${part}`
    else {
      lines.push(`${line},`)
      line = `${' '.repeat(12)}${part}`
    }
  }
  if (line !== '') lines.push(line)
  return lines.map((text) => colors.dim(text))
}

function memory({ memory: kinds, timeline, bytes }: ReplayResult): string[] {
  const span = durationText(timeline.bucketNs * Math.max(0, ...timeline.peaks.map((row) => row.length)))
  const rows = [['', 'peak', 'at end', `over ${span}`, ''].map((cell) => colors.dim(cell))]
  for (const [index, { kind, about, peakBytes, endBytes }] of kinds.entries())
    rows.push([
      `  ${kind}`,
      bytesText(peakBytes),
      bytesText(endBytes),
      colors.cyan(sparkline(narrow(timeline.peaks[index] ?? [], CURVE)).padEnd(CURVE)),
      colors.dim(about),
    ])
  const lines = [title('Memory'), ...columns(rows, [1, 2])]
  if (bytes.truesizePeak > 0)
    lines.push(
      `  at its fullest, ${bytesText(bytes.payloadAtPeak)} of payload was charged as ${bytesText(bytes.truesizePeak)} of truesize: ${percentText(bytes.payloadAtPeak, bytes.truesizePeak)} payload`,
    )
  return lines
}

function narrow(values: readonly number[], width: number): number[] {
  if (values.length <= width) {
    // A short run is drawn as wide as a long one, so that shapes stay comparable.
    return values.length === 0
      ? []
      : Array.from({ length: width }, (_, i) => values[Math.floor((i * values.length) / width)])
  }
  return Array.from({ length: width }, (_, i) =>
    Math.max(...values.slice(Math.floor((i * values.length) / width), Math.floor(((i + 1) * values.length) / width))),
  )
}

function allocations({ caches, allocations: paths, copies, dma }: ReplayResult): string[] {
  const rows = caches
    .filter((cache) => cache.requests > 0)
    .sort((a, b) => b.requests - a.requests)
    .slice(0, 5)
    .map((cache) => [
      `  ${cache.cache}`,
      plural(cache.requests, 'request'),
      percentText(cache.hits, cache.requests),
      colors.dim(cache.about),
    ])
  const lines = [
    `${title('Caches')}  ${colors.dim('share of requests served without asking the layer below')}`,
    ...columns(rows, [1, 2]),
  ]
  // Pages that slab caches grew by hold the objects that are counted above them.
  const most = paths.filter((path) => path.path !== 'allocate_slab').slice(0, 3)
  if (most.length > 0) {
    lines.push(
      '',
      `${title('Allocated')}  ${colors.dim('by cache and by the kernel function that asked; most bytes first')}`,
    )
    lines.push(
      ...columns(
        most.map((a) => [`  ${a.cache}`, a.path, `${countText(a.count)} times`, bytesText(a.bytes)]),
        [2, 3],
      ),
    )
  }
  const sites = Object.entries(copies.bySite)
    .sort((a, b) => b[1].bytes - a[1].bytes)
    .map(([site, { bytes }]) => `${bytesText(bytes)} ${site}`)
  lines.push(
    '',
    `${title('Copied')}  by the CPU ${bytesText(copies.bytes)} in ${plural(copies.calls, 'call')}${sites.length > 0 ? colors.dim(` (${sites.slice(0, 2).join(', ')})`) : ''}`,
    `        by DMA ${bytesText(dma.toMemoryBytes)} to memory, ${bytesText(dma.fromMemoryBytes)} from it; ${plural(dma.maps, 'mapping')}, ${plural(dma.syncs, 'sync')}${dmaExtras(dma)}`,
  )
  return lines
}

/** What only some machines have: bounced transfers, translations, pools. */
function dmaExtras({ bounces, bouncedBytes, iommuMaps, pools }: ReplayResult['dma']): string {
  const parts: string[] = []
  if (bounces > 0) parts.push(`${plural(bounces, 'bounce')} of ${bytesText(bouncedBytes)}`)
  if (iommuMaps > 0) parts.push(`${plural(iommuMaps, 'translation')} made`)
  const left = pools.reduce((sum, pool) => sum + pool.released, 0)
  if (left > 0) parts.push(`${plural(left, 'page')} lost to the pool`)
  return parts.map((part) => `, ${part}`).join('')
}

function sockets({ sockets: totals }: ReplayResult): string[] {
  const { udp, tcp, list } = totals
  if (udp + tcp === 0) return []
  const rows = [['', 'in', 'read', 'written', 'drops', 'rmem peak', 'rcvbuf'].map((cell) => colors.dim(cell))]
  for (const socket of list.slice(0, 4))
    rows.push([
      `  ${socket.proto} ${socket.local}${socket.remote === null ? '' : ` ↔ ${socket.remote}`}`,
      countText(socket.packetsIn),
      bytesText(socket.bytesRead),
      bytesText(socket.bytesWritten),
      socket.drops > 0 ? colors.red(countText(socket.drops)) : '0',
      bytesText(socket.rmemPeak),
      bytesText(socket.rcvbuf),
    ])
  const more = udp + tcp > 4 ? colors.dim(` (the busiest 4 here; --json lists more)`) : ''
  return [
    `${title('Sockets')}  ${countText(udp)} UDP, ${countText(tcp)} TCP${more}`,
    ...columns(rows, [1, 2, 3, 4, 5, 6]),
  ]
}

function limits({ limits: list }: ReplayResult): string[] {
  if (list.length === 0) return []
  const lines = [title('Limits that were met')]
  for (const { reason, packets: count, limit, setting } of list) {
    lines.push(`  ${colors.red(reason)}  ${plural(count, 'packet')}`, `    ${limit}`)
    if (setting !== null) lines.push(`    ${colors.yellow('to change')}  ${setting}`)
  }
  return lines
}

function verdict({ packets: counts, leaks, leaked, warnings }: ReplayResult): string[] {
  const lines = warnings.flatMap((words) =>
    wrapped(words, 88).map((line, i) => (i === 0 ? `${colors.yellow('Warning')}  ${line}` : `         ${line}`)),
  )
  const drops =
    counts.dropped === 0
      ? colors.green('no packet was dropped')
      : colors.red(`${plural(counts.dropped, 'packet')} dropped`)
  const clean =
    leaks === 0
      ? colors.green('nothing leaked: all memory was given back')
      : colors.red(`${plural(leaks, 'object')} leaked: ${leaked.slice(0, 3).join('; ')}`)
  lines.push(`${title('Result')}  ${drops}, ${clean}`)
  return lines
}
