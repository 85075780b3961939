import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const packages = fileURLToPath(new URL('./packages', import.meta.url))

// Tests run against sources: `@netmem/x` and `@netmem/x/testing` resolve to packages/x/src.
const alias = readdirSync(packages).flatMap((name) =>
  ['testing', 'index']
    .map((entry) => ({ entry, file: `${packages}/${name}/src/${entry}.ts` }))
    .filter(({ file }) => existsSync(file))
    .map(({ entry, file }) => ({
      find: new RegExp(`^@netmem/${name}${entry === 'index' ? '' : '/testing'}$`),
      replacement: file,
    })),
)

export default defineConfig({
  define: { __ASSERT__: 'true' },
  resolve: { alias },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'apps/*/src/**/*.test.ts', 'tools/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
  },
})
