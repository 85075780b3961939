/** Two replays side by side: other settings, another kernel, another capture. Both are what `replay --json` printed. */
import type { ReplayResult } from '../replay/result.js'

export type Unit = 'packets' | 'bytes' | 'calls' | 'percent' | 'number'

export interface DiffRow {
  readonly group: string
  readonly name: string
  readonly unit: Unit
  /** Null where one side has no such thing. */
  readonly a: number | null
  readonly b: number | null
}

export interface DiffAnswer {
  readonly schema: 'netmem-diff/1'
  /** What the two machines and captures were, where they differ. */
  readonly settings: readonly { readonly name: string; readonly a: string; readonly b: string }[]
  /** Every quantity; most are equal. */
  readonly rows: readonly DiffRow[]
}

type Quantities = Map<
  string,
  { readonly group: string; readonly name: string; readonly unit: Unit; readonly value: number }
>

function quantities(result: ReplayResult): Quantities {
  const all: Quantities = new Map()
  const add = (group: string, name: string, unit: Unit, value: number): void => {
    all.set(`${group}\0${name}`, { group, name, unit, value })
  }
  const { packets, bytes, copies, dma } = result
  for (const kind of ['read', 'delivered', 'dropped', 'skipped'] as const)
    add('packets', kind, 'packets', packets[kind])
  for (const [reason, count] of Object.entries(result.drops)) add('drops', reason, 'packets', count)
  for (const { kind, peakBytes } of result.memory) add('most memory', kind, 'bytes', peakBytes)
  add('sockets', 'truesize at the peak', 'bytes', bytes.truesizePeak)
  add('sockets', 'payload at the peak', 'bytes', bytes.payloadAtPeak)
  add('sockets', 'read by programs', 'bytes', bytes.readByPrograms)
  add('sockets', 'written by programs', 'bytes', bytes.writtenByPrograms)
  for (const { cache, requests, hits } of result.caches)
    if (requests > 0) add('cache hit rate', cache, 'percent', (100 * hits) / requests)
  for (const { cache, path, bytes: taken } of result.allocations)
    add('allocated', `${cache} by ${path}`, 'bytes', taken)
  add('copies', 'by the CPU', 'bytes', copies.bytes)
  add('copies', 'calls', 'calls', copies.calls)
  add('DMA', 'to memory', 'bytes', dma.toMemoryBytes)
  add('DMA', 'from memory', 'bytes', dma.fromMemoryBytes)
  add('DMA', 'mappings', 'calls', dma.maps)
  add('DMA', 'syncs', 'calls', dma.syncs)
  add('end', 'leaked', 'number', result.leaks)
  return all
}

function settings({ machine, capture }: ReplayResult): Map<string, string> {
  const { sysctl, ...rest } = machine
  const all = new Map<string, string>([['capture', capture.file]])
  for (const [name, value] of Object.entries(rest)) all.set(name, value === null ? 'default' : String(value))
  for (const [name, value] of Object.entries(sysctl)) all.set(name, value)
  return all
}

export function compare(a: ReplayResult, b: ReplayResult): DiffAnswer {
  const [left, right] = [quantities(a), quantities(b)]
  const rows = [...new Set([...left.keys(), ...right.keys()])].map((key): DiffRow => {
    const { group, name, unit } = (left.get(key) ?? right.get(key))!
    return { group, name, unit, a: left.get(key)?.value ?? null, b: right.get(key)?.value ?? null }
  })
  const groups = [...new Set(rows.map(({ group }) => group))]
  const [was, is] = [settings(a), settings(b)]
  return {
    schema: 'netmem-diff/1',
    settings: [...new Set([...was.keys(), ...is.keys()])]
      .map((name) => ({ name, a: was.get(name) ?? 'default', b: is.get(name) ?? 'default' }))
      .filter((setting) => setting.a !== setting.b),
    rows: groups.flatMap((group) => rows.filter((row) => row.group === group)),
  }
}
