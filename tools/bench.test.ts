import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

/** Every package's benchmarks in their small size, so that they cannot rot. Nothing here looks at a clock. */
const packages = join(dirname(dirname(fileURLToPath(import.meta.url))), 'packages')
const files = readdirSync(packages).flatMap((name) => {
  const folder = join(packages, name, 'bench')
  return existsSync(folder) ? readdirSync(folder).map((file) => join(folder, file)) : []
})

interface BenchModule {
  cases: Record<string, (() => { run(n: number): number }) | { setup(): void; run(n: number): number }>
}

it('finds the benchmarks of several packages', () => {
  expect(files.length).toBeGreaterThan(2)
})

describe.each(files.map((file) => [file.slice(packages.length + 1), file]))('%s', (_, file) => {
  it('does the same work every time', async () => {
    const { cases } = (await import(pathToFileURL(file!).href)) as BenchModule
    expect(Object.keys(cases).length).toBeGreaterThan(0)
    for (const [name, make] of Object.entries(cases)) {
      const once = (): number => {
        if (typeof make === 'function') return make().run(256)
        make.setup()
        return make.run(256)
      }
      const first = once()
      expect(Number.isFinite(first), name).toBe(true)
      expect(once(), name).toBe(first)
    }
  })
})
