#!/usr/bin/env node
// What `npm start` and `npm test` need on a machine with only Node and npm; it runs before any dependency exists.
// Installs when manifests changed, builds under a lock (start and test may run at once), then runs the task.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const bin = join(root, 'node_modules', '.bin')
const stamp = join(root, 'node_modules', '.bootstrap-stamp')
const lock = join(root, '.bootstrap-lock')
const { packageManager, engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const [task, ...args] = process.argv.slice(2)

const fail = (words, code = 1) => {
  process.stderr.write(`[bootstrap] ${words}\n`)
  process.exit(code)
}
const newer = (a, b) =>
  a
    .split('.')
    .map(Number)
    .reduce((sign, part, i) => sign || part - (b.split('.')[i] ?? 0), 0) >= 0
const wanted = engines.node.replace('>=', '')
if (!newer(process.versions.node, wanted)) fail(`Node ${wanted} or newer is needed; this is ${process.versions.node}`)

// npm hands its own settings down as npm_config_*; some of them mean something else to pnpm.
const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^npm_config_/i.test(key)))
env.PATH = `${bin}${delimiter}${env.PATH}`
env.TURBO_TELEMETRY_DISABLED = '1'
env.NODE_ENV = ''
const run = (command, argv, cwd = root) => spawnSync(command, argv, { cwd, env, stdio: 'inherit' }).status ?? 1
const must = (command, argv, cwd) => {
  const status = run(command, argv, cwd)
  if (status !== 0) process.exit(status)
}

function fingerprint() {
  const hash = createHash('sha256').update(process.version)
  const manifests = ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml']
  for (const group of ['packages', 'apps'])
    for (const name of readdirSync(join(root, group))) manifests.push(join(group, name, 'package.json'))
  for (const file of manifests) if (existsSync(join(root, file))) hash.update(readFileSync(join(root, file)))
  return hash.digest('hex')
}

function install() {
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === fingerprint()) return
  const options = ['install', '--frozen-lockfile', '--prefer-offline', '--prod=false']
  // After the first install pnpm is a dependency of the root, and neither npm nor a network is needed.
  const npm = ['exec', '--yes', '--prefer-offline', '--fetch-retries=1', `--package=${packageManager}`, '--', 'pnpm']
  process.stderr.write(`[bootstrap] installing with ${packageManager}\n`)
  const status = existsSync(join(bin, 'pnpm')) ? run('pnpm', options) : run('npm', [...npm, ...options])
  if (status !== 0) fail('could not install; the first run needs the npm registry', status)
  writeFileSync(stamp, fingerprint())
}

/** Takes the lock folder, or waits for its holder; a holder that died, or never wrote its number, is no holder. */
async function underLock(work) {
  for (let told = false; ; told = true) {
    try {
      mkdirSync(lock)
      writeFileSync(join(lock, 'pid'), String(process.pid))
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    if (abandoned()) rmSync(lock, { recursive: true, force: true })
    else {
      if (!told) process.stderr.write('[bootstrap] another set-up or build is running; waiting for it\n')
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }
  process.on('exit', () => rmSync(lock, { recursive: true, force: true }))
  work()
  rmSync(lock, { recursive: true, force: true })
}

function abandoned() {
  try {
    const pid = Number(readFileSync(join(lock, 'pid'), 'utf8'))
    if (pid > 0) return process.kill(pid, 0) !== true
    return Date.now() - statSync(lock).mtimeMs > 5000
  } catch (error) {
    if (error.code === 'ESRCH') return true
    return error.code === 'ENOENT' && existsSync(lock) && Date.now() - statSync(lock).mtimeMs > 5000
  }
}

await underLock(() => {
  install()
  if (task === 'start' || task === 'test')
    must('turbo', ['run', 'build', '--output-logs=errors-only', '--no-update-notifier'])
})
const cli = join(root, 'apps', 'cli', 'bin', 'netmem.js')
if (task === 'start') {
  const bundled = ['replay', join(root, 'apps', 'cli', 'captures', 'web-download.pcap')]
  must(process.execPath, [cli, ...(args.length > 0 ? args : bundled)], process.env.INIT_CWD)
} else if (task === 'test') must('vitest', ['run', ...args])
else if (task !== 'install') fail(`no task "${task}": start, test or install`, 2)
