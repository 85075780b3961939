/** Allocations as a flame graph: all bytes, by what was allocated from, by the kernel function that asked. */
import type { AllocationFacts } from '../../replay/result.js'
import { bytesText, countText, percentText } from '../format.js'
import { text } from './markup.js'

interface Box {
  readonly name: string
  readonly about: string
  readonly share: number
  readonly colour: string
}

const row = (boxes: readonly Box[]): string =>
  `<div>${boxes
    .map(
      ({ name, about, share, colour }) =>
        `<span style="flex:${share.toFixed(6)} 1 0;background:color-mix(in srgb,var(--${colour}) 45%,var(--panel))" title="${text(about)}">${text(name)}</span>`,
    )
    .join('')}</div>`

/** @returns markup, empty where nothing was allocated. Boxes are as wide as their bytes. */
export function flame(allocations: readonly AllocationFacts[]): string {
  const all = allocations.reduce((sum, { bytes }) => sum + bytes, 0)
  if (all === 0) return ''
  const caches = [...new Set(allocations.map(({ cache }) => cache))]
    .map((cache) => {
      const of = allocations.filter((allocation) => allocation.cache === cache).sort((a, b) => b.bytes - a.bytes)
      return { cache, of, bytes: of.reduce((sum, { bytes }) => sum + bytes, 0) }
    })
    .sort((a, b) => b.bytes - a.bytes)
  const about = (name: string, bytes: number, count: number): string =>
    `${name}: ${bytesText(bytes)}, ${percentText(bytes, all)} of all, ${countText(count)} allocations`
  const counted = (of: readonly AllocationFacts[]): number => of.reduce((sum, { count }) => sum + count, 0)
  return `<div class="flame">${[
    row([
      {
        name: `all allocations, ${bytesText(all)}`,
        about: about('all', all, counted(allocations)),
        share: 1,
        colour: 'line',
      },
    ]),
    row(
      caches.map(({ cache, of, bytes }, i) => ({
        name: cache,
        about: about(cache, bytes, counted(of)),
        share: bytes / all,
        colour: `k${i % 7}`,
      })),
    ),
    row(
      caches.flatMap(({ cache, of }, i) =>
        of.map(({ path, bytes, count }) => ({
          name: path,
          about: about(`${path} from ${cache}`, bytes, count),
          share: bytes / all,
          colour: `k${i % 7}`,
        })),
      ),
    ),
  ].join('')}</div>`
}
