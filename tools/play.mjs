#!/usr/bin/env node
/**
 * Plays traces on the model from source, without a build, and prints what differs.
 *
 *     node tools/play.mjs [--all] [--steps] trace.json... folder...
 *
 * One line per trace and its first mismatches; --all prints all of them, --steps a line per step as it is played.
 * Exit code 1 when any check does not match.
 */
import nodeCrypto from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const SHOWN = 8
const options = new Set(process.argv.slice(2).filter((arg) => arg.startsWith('--')))
const paths = process.argv.slice(2).filter((arg) => !arg.startsWith('--'))

const files = paths.flatMap((path) =>
  statSync(path).isDirectory()
    ? readdirSync(path)
        .filter((name) => name.endsWith('.json'))
        .sort()
        .map((name) => join(path, name))
    : [path],
)
if (files.length === 0) {
  console.error('usage: node tools/play.mjs [--all] [--steps] trace.json... folder...')
  process.exit(2)
}

const { playTrace, tlsCryptoFromNode } = await bundle()
const crypto = tlsCryptoFromNode(nodeCrypto)
const show = (value) => {
  const text = JSON.stringify(value)
  return text.length > 400 && !options.has('--all') ? `${text.slice(0, 400)}...` : text
}

const families = new Map()
let checks = 0
let matched = 0
let whole = 0
for (const file of files) {
  const started = performance.now()
  const trace = JSON.parse(readFileSync(file, 'utf8'))
  const report = playTrace(trace, {
    crypto,
    ...(options.has('--steps') ? { afterStep: (_, step) => printStep(trace, step) } : {}),
  })
  const ms = performance.now() - started
  checks += report.checks
  matched += report.matched
  const complete = report.matched === report.checks
  if (complete) whole += 1
  const key = `${report.family} ${report.profile}`
  const family = families.get(key) ?? { traces: 0, whole: 0, checks: 0, matched: 0 }
  family.traces += 1
  family.whole += complete ? 1 : 0
  family.checks += report.checks
  family.matched += report.matched
  families.set(key, family)
  if (options.has('--table')) continue
  const slow = ms > 500 ? ` (${Math.round(ms)} ms)` : ''
  console.log(
    `${complete ? 'ok  ' : 'DIFF'} ${report.name} [${report.profile}] ${report.matched}/${report.checks}${slow}`,
  )
  if (report.unsupported.length > 0) console.log(`     not modelled: ${report.unsupported.join(', ')}`)
  const shown = options.has('--all') ? report.mismatches : report.mismatches.slice(0, SHOWN)
  for (const { step, do: verb, key: name, expected, actual } of shown) {
    console.log(`     step ${step} ${verb} ${JSON.stringify(withoutExpect(trace.steps[step]))}`)
    console.log(`       ${name}: kernel ${show(expected)}`)
    console.log(`       ${' '.repeat(name.length)}   model ${show(actual)}`)
  }
  const rest = report.mismatches.length - shown.length
  if (rest > 0) console.log(`     and ${rest} more`)
}
if (files.length > 1) {
  console.log('family, kernel: traces that match whole, checks that match')
  for (const [key, family] of [...families].sort(([a], [b]) => (a < b ? -1 : 1)))
    console.log(`  ${key.padEnd(36)} ${family.whole}/${family.traces}`.padEnd(52), `${family.matched}/${family.checks}`)
  console.log(`  all${' '.repeat(33)} ${whole}/${files.length}`.padEnd(52), `${matched}/${checks}`)
}
process.exit(matched === checks ? 0 : 1)

function withoutExpect({ expect: _expect, do: _do, ...rest }) {
  return rest
}

function printStep(trace, step) {
  console.log(`${step}: ${JSON.stringify({ ...trace.steps[step], expect: undefined })}`)
}

/** Bundles kernel-model and everything below it from source. esbuild comes with vitest's and tsup's own trees. */
async function bundle() {
  const require = createRequire(join(root, 'package.json'))
  const { build } = createRequire(require.resolve('tsup'))('esbuild')
  const alias = Object.fromEntries(
    readdirSync(join(root, 'packages')).flatMap((name) =>
      [
        [`@netmem/${name}/testing`, join(root, 'packages', name, 'src/testing.ts')],
        [`@netmem/${name}`, join(root, 'packages', name, 'src/index.ts')],
      ].filter(([, file]) => existsSync(file)),
    ),
  )
  const folder = mkdtempSync(join(tmpdir(), 'netmem-play-'))
  const outfile = join(folder, 'play.mjs')
  try {
    await build({
      entryPoints: [join(root, 'packages/kernel-model/src/index.ts')],
      bundle: true,
      format: 'esm',
      target: 'node20',
      outfile,
      alias,
      define: { __ASSERT__: 'true' },
      sourcemap: 'inline',
      logLevel: 'error',
    })
    process.setSourceMapsEnabled(true)
    return await import(pathToFileURL(outfile).href)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
