import { existsSync } from 'node:fs'
import { defineConfig, type Options } from 'tsup'

/**
 * Two builds of a library package: the default one keeps every assertion, the production one
 * (export condition `production`, used by the CLI and the benchmarks) has them removed.
 */
export function library(): ReturnType<typeof defineConfig> {
  const entry = ['src/index.ts', 'src/testing.ts'].filter((file) => existsSync(file))
  const common: Options = { entry, format: ['esm', 'cjs'], sourcemap: true, target: 'node20', treeshake: false }
  return defineConfig([
    {
      ...common,
      outDir: 'dist',
      dts: { compilerOptions: { ignoreDeprecations: '6.0' } },
      define: { __ASSERT__: 'true' },
    },
    {
      ...common,
      outDir: 'dist/production',
      dts: false,
      define: { __ASSERT__: 'false' },
      esbuildOptions: (options) => {
        options.minifySyntax = true
      },
    },
  ])
}

/** An app: one bundle of its own code and the production builds of the packages; libraries stay outside. */
export function application(): ReturnType<typeof defineConfig> {
  return defineConfig({
    entry: ['src/index.ts'],
    format: ['esm'],
    outDir: 'dist',
    target: 'node20',
    sourcemap: true,
    noExternal: [/^@netmem\//],
    define: { __ASSERT__: 'false' },
    esbuildOptions: (options) => {
      options.minifySyntax = true
      options.conditions = ['production']
    },
  })
}
