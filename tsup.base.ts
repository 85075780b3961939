import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
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

/**
 * An app: one bundle of its own code and the packages without their assertions; libraries stay outside.
 *
 * @param options.fromSource takes the packages' sources instead of their production builds.
 */
export function application(options: { fromSource?: boolean } = {}): ReturnType<typeof defineConfig> {
  return defineConfig({
    entry: ['src/index.ts'],
    format: ['esm'],
    outDir: 'dist',
    target: 'node20',
    sourcemap: true,
    noExternal: [/^@netmem\//],
    define: { __ASSERT__: 'false' },
    esbuildOptions: (esbuild) => {
      esbuild.minifySyntax = true
      esbuild.conditions = ['production']
      if (options.fromSource === true) esbuild.alias = { ...esbuild.alias, ...sourceAliases() }
    },
  })
}

// The benchmarks of a package import its sources; other packages must then be sources too, or there would be two of each.
function sourceAliases(): Record<string, string> {
  const packages = fileURLToPath(new URL('./packages/', import.meta.url))
  return Object.fromEntries(readdirSync(packages).map((name) => [`@netmem/${name}`, `${packages}${name}/src/index.ts`]))
}
