import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

/** Every package README: what it owns, what it does not, and one example that is a file and runs. */
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const packages = readdirSync(join(root, 'packages'))

describe.each(packages)('README of %s', (name) => {
  const dir = join(root, 'packages', name)
  const readme = existsSync(join(dir, 'README.md')) ? readFileSync(join(dir, 'README.md'), 'utf8') : ''

  it('says what the package owns and does not own', () => {
    expect(readme).toMatch(/^# @netmem\//)
    expect(readme).toMatch(/\*\*Owns\*\*/i)
    expect(readme).toMatch(/\*\*Does not own\*\*/i)
  })

  it('shows one example, the same as the file in examples/, and it runs', async () => {
    const shown = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!)
    expect(shown.length).toBe(1)
    const files = readdirSync(join(dir, 'examples')).filter((file) => file.endsWith('.ts'))
    expect(files.map((file) => readFileSync(join(dir, 'examples', file), 'utf8'))).toContain(shown[0])
    for (const file of files) await import(pathToFileURL(join(dir, 'examples', file)).href)
  })
})
