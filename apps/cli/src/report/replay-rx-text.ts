/** The comparison of receive paths as a table. */
import type { RxResult } from '../replay/replay-rx.js'
import { columns, countText, memoryText, plural } from './format.js'

export function replayRxText(result: RxResult): string {
  const { capture, machine } = result
  const rows = [
    ['', 'packets', 'data', 'dropped', 'calls', 'copied', 'copies', 'rings', 'queued', 'peak'],
    ...result.paths.map((path) => [
      path.path,
      countText(path.delivered.packets),
      memoryText(path.delivered.bytes),
      countText(Object.values(path.dropped).reduce((sum, n) => sum + n, 0)),
      countText(path.calls),
      memoryText(path.copies.bytes),
      countText(path.copies.calls),
      memoryText(path.memory.fixedBytes),
      memoryText(path.memory.queuedPeakBytes),
      memoryText(path.memory.peakBytes),
    ]),
  ]
  const lines = [
    `${capture.file}: ${plural(capture.packets, 'packet')}${capture.skipped > 0 ? `, ${capture.skipped} skipped` : ''}`,
    `${machine.kernel}, driver ${machine.driver}, MTU ${machine.mtu}, reader ${machine.reader}`,
    '',
    ...columns(rows, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
  ]
  for (const { path, dropped } of result.paths) {
    const names = Object.entries(dropped).map(([name, count]) => `${name} ${countText(count)}`)
    if (names.length > 0) lines.push(`${path}: ${names.join(', ')}`)
  }
  return `${lines.join('\n')}\n`
}
