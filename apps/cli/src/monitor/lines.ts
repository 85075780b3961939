/**
 * The monitor's screen as lines of words with a mark each: the live screen colours them, `--once` prints them. The
 * last looks give rates and small curves.
 */
import { bytesText, columns, countText, memoryText, percentText, sparkline } from '../report/format.js'
import { perSecond, type Snapshot } from './snapshot.js'

export type Mark = 'title' | 'plain' | 'dim' | 'near' | 'over'

export interface ScreenLine {
  readonly text: string
  readonly mark: Mark
}

const PAGE_BYTES = 4096
const CURVE = 24

const line = (text: string, mark: Mark = 'plain'): ScreenLine => ({ text, mark })
const rate = (value: number): string => `${value >= 10 || value === 0 ? countText(value) : value.toFixed(1)}/s`

/** @param history oldest first; the last is now. */
export function screen(history: readonly Snapshot[]): ScreenLine[] {
  const now = history.at(-1)!
  return [
    line(`netmem monitor  Linux ${now.release}, ${memoryText(now.memoryBytes)}`, 'title'),
    line(''),
    ...protocols(history),
    line(''),
    ...sockets(now),
    line(''),
    ...slabs(now),
    line(''),
    ...softnet(history),
    line(''),
    ...devices(history),
    line(''),
    ...drops(history),
    line(''),
    line('Page pools: the kernel shows them over netlink only (ynl --family netdev --dump page-pool-get)', 'dim'),
  ]
}

function protocols(history: readonly Snapshot[]): ScreenLine[] {
  const now = history.at(-1)!
  const rows = now.protocols.map(({ name, pages, pressure, high }, i) => [
    `  ${name}`,
    bytesText(pages * PAGE_BYTES),
    `${countText(pages)} pages`,
    percentText(pages, high),
    `pressure from ${bytesText(pressure * PAGE_BYTES)}, limit ${bytesText(high * PAGE_BYTES)}`,
    sparkline(history.slice(-CURVE).map((look) => look.protocols[i]!.pages)),
  ])
  return [
    line('Protocol memory', 'title'),
    ...columns(rows, [1, 2, 3]).map((text, i) => {
      const { pages, pressure, high } = now.protocols[i]!
      return line(text, high > 0 && pages >= high ? 'over' : pressure > 0 && pages >= pressure ? 'near' : 'plain')
    }),
  ]
}

const sockets = ({ sockets: { used, tcp, orphans, timeWait, udp } }: Snapshot): ScreenLine[] => [
  line('Sockets', 'title'),
  line(
    `  ${countText(used)} of all kinds, ${countText(tcp)} TCP (${countText(orphans)} orphaned, ${countText(timeWait)} in TIME-WAIT), ${countText(udp)} UDP`,
  ),
]

function slabs({ slabs: list }: Snapshot): ScreenLine[] {
  if (list.length === 0) return [line('Slab caches', 'title'), line('  /proc/slabinfo may be read by root only', 'dim')]
  const rows = list.map(({ name, active, total, objectBytes }) => [
    `  ${name}`,
    countText(active),
    `of ${countText(total)}`,
    bytesText(total * objectBytes),
  ])
  return [line('Slab caches', 'title'), ...columns(rows, [1, 2, 3]).map((text) => line(text))]
}

function softnet(history: readonly Snapshot[]): ScreenLine[] {
  const [from, now] = [history.at(-2) ?? history.at(-1)!, history.at(-1)!]
  const of = (pick: (look: Snapshot) => number): number => perSecond(pick(now), pick(from), from, now)
  const dropping = of((look) => look.softnet.dropped)
  const rates = history.slice(-CURVE - 1).map((look, i, all) => {
    const before = all[i - 1] ?? look
    return perSecond(look.softnet.processed, before.softnet.processed, before, look)
  })
  return [
    line('Softnet', 'title'),
    line(
      `  processed ${rate(of((look) => look.softnet.processed))}  dropped ${rate(dropping)} (${countText(now.softnet.dropped)} in all)  ` +
        `squeezed ${rate(of((look) => look.softnet.squeezed))} (${countText(now.softnet.squeezed)})  ${sparkline(rates)}`,
      dropping > 0 ? 'over' : 'plain',
    ),
  ]
}

function devices(history: readonly Snapshot[]): ScreenLine[] {
  const [from, now] = [history.at(-2) ?? history.at(-1)!, history.at(-1)!]
  const rows = [['  device', 'received', '', 'sent', '', 'rx dropped', 'tx dropped', 'rx fifo']]
  const marks: Mark[] = ['dim']
  for (const device of now.devices) {
    const before = from.devices.find(({ name }) => name === device.name) ?? device
    const of = (key: Exclude<keyof typeof device, 'name'>): number => perSecond(device[key], before[key], from, now)
    rows.push([
      `  ${device.name}`,
      rate(of('rxPackets')),
      `${bytesText(of('rxBytes'))}/s`,
      rate(of('txPackets')),
      `${bytesText(of('txBytes'))}/s`,
      countText(device.rxDropped),
      countText(device.txDropped),
      countText(device.rxFifo),
    ])
    marks.push(of('rxDropped') + of('txDropped') + of('rxFifo') > 0 ? 'over' : 'plain')
  }
  return [line('Devices', 'title'), ...columns(rows, [1, 2, 3, 4, 5, 6, 7]).map((text, i) => line(text, marks[i]!))]
}

function drops(history: readonly Snapshot[]): ScreenLine[] {
  const [from, now] = [history.at(-2) ?? history.at(-1)!, history.at(-1)!]
  const shown = Object.entries(now.counters).filter(([, count]) => count > 0)
  if (shown.length === 0) return [line('Drops and pressure', 'title'), line('  none since the machine started')]
  const rates = shown.map(([name, count]) => perSecond(count, from.counters[name] ?? count, from, now))
  const rows = shown.map(([name, count], i) => [`  ${name}`, countText(count), rate(rates[i]!)])
  return [
    line('Drops and pressure', 'title'),
    ...columns(rows, [1, 2]).map((text, i) => line(text, rates[i]! > 0 ? 'over' : 'plain')),
  ]
}
