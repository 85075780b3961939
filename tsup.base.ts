import { existsSync, readdirSync } from 'node:fs'
import { basename, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig, type Options } from 'tsup'

type Plugin = NonNullable<Options['esbuildPlugins']>[number]

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
 * @param options.apart files that are imported when they are needed, and their exports: each becomes a CommonJS bundle of
 *   its own with its own copy of the model. Node runs the model's small functions 5 to 13 % faster from such a bundle.
 */
export function application(
  options: { fromSource?: boolean; apart?: Readonly<Record<string, readonly string[]>> } = {},
): ReturnType<typeof defineConfig> {
  const { apart = {} } = options
  const common: Options = {
    outDir: 'dist',
    target: 'node20',
    noExternal: [/^@netmem\//],
    define: { __ASSERT__: 'false' },
    esbuildOptions: (esbuild) => {
      esbuild.minifySyntax = true
      esbuild.conditions = ['production']
      if (options.fromSource === true) esbuild.alias = { ...esbuild.alias, ...sourceAliases() }
    },
  }
  return defineConfig([
    { ...common, entry: ['src/index.ts'], format: ['esm'], esbuildPlugins: [apartPlugin(apart)] },
    ...Object.keys(apart).map((file): Options => ({ ...common, entry: [file], format: ['cjs'], shims: true })),
  ])
}

/** Where a file that is bundled apart is imported, its exports come from that bundle. */
function apartPlugin(apart: Readonly<Record<string, readonly string[]>>): Plugin {
  return {
    name: 'apart',
    setup(build) {
      build.onResolve({ filter: /^\.{1,2}\// }, ({ kind, path, resolveDir }) => {
        if (kind !== 'dynamic-import') return undefined
        const file = relative(process.cwd(), resolve(resolveDir, path)).replaceAll('\\', '/').replace(/\.js$/, '.ts')
        return file in apart ? { path: file, namespace: 'apart' } : undefined
      })
      build.onLoad({ filter: /./, namespace: 'apart' }, ({ path }) => ({
        contents: `import { createRequire } from 'node:module'
export const { ${apart[path]!.join(', ')} } = createRequire(import.meta.url)('./${basename(path, '.ts')}.cjs')`,
      }))
    },
  }
}

// The benchmarks of a package import its sources; other packages must then be sources too, or there would be two of each.
function sourceAliases(): Record<string, string> {
  const packages = fileURLToPath(new URL('./packages/', import.meta.url))
  return Object.fromEntries(readdirSync(packages).map((name) => [`@netmem/${name}`, `${packages}${name}/src/index.ts`]))
}
