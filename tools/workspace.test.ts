import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const manifest = (path: string) => JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'))

it('pins the same pnpm for the bootstrap and as a dependency', () => {
  const { packageManager, devDependencies } = manifest('.')
  expect(packageManager).toBe(`pnpm@${devDependencies.pnpm}`)
})

it('keeps addresses of registries out of the lock file', () => {
  expect(readFileSync(join(root, 'pnpm-lock.yaml'), 'utf8')).not.toMatch(/https?:/)
})

it('publishes every package under the same licence, type and floor of Node', () => {
  const names = readdirSync(join(root, 'packages'))
  expect(names.length).toBeGreaterThan(5)
  for (const name of names) {
    const { license, type, engines, sideEffects } = manifest(join('packages', name))
    expect({ name, license, type, node: engines.node, sideEffects }).toEqual({
      name,
      license: 'MIT',
      type: 'module',
      node: '>=20.19.0',
      sideEffects: false,
    })
  }
})
