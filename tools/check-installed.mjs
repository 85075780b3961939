#!/usr/bin/env node
// Every publishable package as its users will have it: packed, installed from its tarball into an empty project, and its
// README's example run there as ES module and as CommonJS, and in Chromium where that is installed. Lists what each weighs
// in a bundle, and fails above the bound of tools/bundle-sizes.json.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const BROWSER = '/usr/bin/chromium'
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const require = createRequire(import.meta.url)
const ts = require('typescript')
const esbuild = createRequire(require.resolve('tsup'))('esbuild')
const bounds = JSON.parse(readFileSync(join(root, 'tools', 'bundle-sizes.json'), 'utf8'))
const names = readdirSync(join(root, 'packages')).filter((name) => !manifest(name).private)
const project = mkdtempSync(join(tmpdir(), 'netmem-installed-'))
let checked = 0
let failed = 0

function manifest(name) {
  return JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8'))
}

function check(what, ok, words = '') {
  checked++
  if (ok) return
  failed++
  console.error(`${what}: ${words}`)
}

function run(what, command, argv, cwd) {
  const { status, stdout, stderr } = spawnSync(command, argv, { cwd, encoding: 'utf8' })
  check(what, status === 0, `exit ${status}\n${stdout}${stderr}`)
  return status === 0
}

function packAndInstall() {
  const tarballs = join(project, 'tarballs')
  mkdirSync(tarballs)
  for (const name of names)
    run(`pack ${name}`, 'pnpm', ['pack', '--pack-destination', tarballs], join(root, 'packages', name))
  writeFileSync(join(project, 'package.json'), '{ "private": true }\n')
  const files = readdirSync(tarballs).map((file) => `./tarballs/${file}`)
  return run('install', 'npm', ['install', '--offline', '--no-audit', '--no-fund', ...files], project)
}

/** The example of a package's README, as JavaScript of one module system. */
function example(name, module) {
  const folder = join(root, 'packages', name, 'examples')
  const source = readFileSync(
    join(
      folder,
      readdirSync(folder).find((file) => file.endsWith('.ts')),
    ),
    'utf8',
  )
  return ts.transpileModule(source, { compilerOptions: { module, target: ts.ScriptTarget.ES2022 } }).outputText
}

function inNode(name) {
  for (const [file, module] of [
    [`${name}.mjs`, ts.ModuleKind.ESNext],
    [`${name}.cjs`, ts.ModuleKind.CommonJS],
  ]) {
    writeFileSync(join(project, file), example(name, module))
    run(`example ${file}`, process.execPath, [file], project)
  }
}

/** @returns the bundle's text: everything that the package and those below it export. */
function bundled(name, contents) {
  const { outputFiles } = esbuild.buildSync({
    stdin: { contents, resolveDir: project, sourcefile: `${name}.mjs` },
    bundle: true,
    write: false,
    minify: true,
    format: 'esm',
    platform: 'browser',
    conditions: ['production'],
    logLevel: 'error',
  })
  return outputFiles[0].text
}

function weigh(name) {
  const text = bundled(name, `export * from '@netmem/${name}'`)
  const kB = (bytes) => Math.ceil(bytes / 1000)
  const [plain, zipped] = [kB(text.length), kB(gzipSync(text).length)]
  const bound = bounds[name]
  console.log(
    `${name.padEnd(14)} ${String(plain).padStart(5)} kB minified, ${String(zipped).padStart(4)} kB gzipped, bound ${bound} kB`,
  )
  check(`size of ${name}`, plain <= bound, `${plain} kB, above the bound of ${bound} kB in tools/bundle-sizes.json`)
}

async function inBrowser() {
  if (!existsSync(BROWSER)) {
    console.log(`examples in a browser: skipped, there is no ${BROWSER}`)
    return
  }
  const { chromium } = createRequire(join(root, 'apps', 'cli', 'package.json'))('playwright-core')
  const browser = await chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox', '--disable-gpu'] })
  try {
    for (const name of names) {
      const page = await browser.newPage()
      const errors = []
      page.on('pageerror', (error) => errors.push(error.message))
      await page.addScriptTag({
        content: bundled(name, `${example(name, ts.ModuleKind.ESNext)}\nglobalThis.done = true`),
        type: 'module',
      })
      const done = await page.waitForFunction('globalThis.done', null, { timeout: 20_000 }).then(
        () => true,
        () => false,
      )
      check(`example of ${name} in Chromium`, done && errors.length === 0, errors.join('; ') || 'did not finish')
      await page.close()
    }
  } finally {
    await browser.close()
  }
}

/** What `changeset version` would make of the changesets, in a copy. */
function dryRunOfVersions() {
  const copy = join(project, 'versions')
  const archive = spawnSync('git', ['clone', '-q', '--no-hardlinks', root, copy], { encoding: 'utf8' })
  check('copy for a dry run of versions', archive.status === 0, archive.stderr)
  if (!run('changeset version', 'changeset', ['version'], copy)) return
  check('changelogs', existsSync(join(copy, 'packages', 'memory', 'CHANGELOG.md')), 'no changelog was written')
}

try {
  if (packAndInstall()) {
    for (const name of names) inNode(name)
    for (const name of names) weigh(name)
    await inBrowser()
  }
  dryRunOfVersions()
} finally {
  rmSync(project, { recursive: true, force: true })
}
console.log(`${checked} checks of installed packages, ${failed} failed`)
process.exit(checked > 0 && failed === 0 ? 0 : 1)
