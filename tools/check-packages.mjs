#!/usr/bin/env node
// Every publishable package as its users will get it: publint on the manifest, and the types of its packed
// tarball as each module system resolves them. Fails when there was nothing to check.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folders = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name))
let failed = 0
let checked = 0
for (const folder of folders) {
  const { name, private: isPrivate } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  if (isPrivate) continue
  for (const [command, ...argv] of [
    ['publint', '--strict'],
    ['attw', '--pack', '.', '--profile', 'node16', '--format', 'ascii', '--quiet'],
  ]) {
    const { status, stdout, stderr } = spawnSync(command, argv, { cwd: folder, encoding: 'utf8' })
    checked++
    if (status === 0) continue
    failed++
    console.error(`${name}: ${command} exit ${status}\n${stdout}${stderr}`)
  }
}
console.log(`${checked} package checks, ${failed} failed`)
process.exit(checked > 0 && failed === 0 ? 0 : 1)
