import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

/**
 * The layer rule of ARCHITECTURE.md, held against every manifest and every import. Each check also counts
 * what it looked at: a check that found nothing to check fails.
 */
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const { $comment: _, ...layers } = JSON.parse(readFileSync(join(root, 'layers.json'), 'utf8')) as Record<string, number>

const members = ['packages', 'apps'].flatMap((group) =>
  readdirSync(join(root, group)).map((name) => ({ name, group, dir: join(root, group, name) })),
)

function sources(dir: string): string[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) return sources(path)
    return entry.name.endsWith('.ts') || entry.name.endsWith('.tsx') ? [path] : []
  })
}

// `import … from 'x'` and `export … from 'x'` over several lines, `import 'x'`, `import('x')`; not words of a comment.
const importsOf = (text: string): string[] =>
  [...text.matchAll(/^(?:(?:import|export)\s[^'";=()]*?\bfrom\s*|import\s*|.*\bimport\()['"]([^'"]+)['"]/gm)].map(
    (match) => match[1]!,
  )

/** The bench app runs the packages' own benchmarks, which no package publishes. */
const BENCHMARKS = /^\.\.\/\.\.\/\.\.\/\.\.\/packages\/[^/]+\/bench\//

describe('layers', () => {
  it('has a number for every folder of packages and apps, and a folder for every number', () => {
    expect(members.map(({ name }) => name).sort()).toEqual(Object.keys(layers).sort())
  })

  it('lets a manifest name only packages of lower layers', () => {
    let checked = 0
    for (const { name, dir } of members) {
      const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
      for (const dependency of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })) {
        if (!dependency.startsWith('@netmem/')) continue
        checked++
        expect(layers[dependency.slice(8)], `${name} depends on ${dependency}`).toBeLessThan(layers[name]!)
      }
    }
    expect(checked).toBeGreaterThan(30)
  })

  it('lets a source import only lower layers by name, and of its own package only what is in it', () => {
    let checked = 0
    for (const { name, dir } of members)
      for (const file of sources(join(dir, 'src')))
        for (const target of importsOf(readFileSync(file, 'utf8'))) {
          const where = `${file.slice(root.length + 1)} imports ${target}`
          if (target.startsWith('@netmem/')) {
            checked++
            const [, other, entry] = target.split('/')
            expect(layers[other!], where).toBeLessThan(layers[name]!)
            expect([undefined, 'testing'], where).toContain(entry)
          } else if (name === 'bench' && BENCHMARKS.test(target)) checked++
          else if (target.startsWith('.')) {
            checked++
            expect(join(dirname(file), target).startsWith(dir), where).toBe(true)
          }
        }
    expect(checked).toBeGreaterThan(200)
  })

  it('keeps node: modules and outside libraries out of everything below apps/', () => {
    let checked = 0
    for (const { group, dir } of members) {
      if (group !== 'packages') continue
      const manifest = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
      const outside = Object.keys(manifest.dependencies ?? {}).filter(
        (dependency) => !dependency.startsWith('@netmem/'),
      )
      expect(outside, manifest.name).toEqual([])
      for (const file of sources(join(dir, 'src'))) {
        if (file.endsWith('.test.ts')) continue
        for (const target of importsOf(readFileSync(file, 'utf8'))) {
          checked++
          expect(target, file.slice(root.length + 1)).toMatch(/^(\.|@netmem\/)/)
        }
      }
    }
    expect(checked).toBeGreaterThan(200)
  })
})
