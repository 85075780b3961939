/** docs/questions.md: every command in it runs, and prints what the page says it prints. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const bin = fileURLToPath(new URL('../bin/netmem.js', import.meta.url))
const dist = fileURLToPath(new URL('../dist/index.js', import.meta.url))
const docs = fileURLToPath(new URL('../../../docs', import.meta.url))

const page = readFileSync(join(docs, 'questions.md'), 'utf8')
const questions = page
  .split(/^### /m)
  .slice(1)
  .map((text) => ({
    title: text.split('\n')[0]!,
    commands: [...text.matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block]) => block!.trim().split('\n')),
    shown: [...text.matchAll(/^> (.+)$/gm)].map(([, line]) => line!),
  }))

/** `netmem a "b c" < file` as arguments and a file. */
function parsed(command: string): { args: string[]; input: string } {
  const [words, file] = command.split(' < ')
  const args = [...words!.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!)
  return { args: args.slice(1), input: file === undefined ? '' : readFileSync(join(docs, file), 'utf8') }
}

const plain = (text: string): string => text.replace(/\s+/g, ' ')

describe('the thirty questions', () => {
  it('are thirty, each with a command and what it prints', () => {
    expect(questions.map(({ title }) => Number.parseInt(title, 10))).toEqual(
      Array.from({ length: 30 }, (_, i) => i + 1),
    )
    for (const { title, commands, shown } of questions) {
      expect([title, commands.length > 0 && shown.length > 0]).toEqual([title, true])
      for (const command of commands) expect(command).toMatch(/^netmem /)
    }
  })

  it.skipIf(!existsSync(dist)).each(questions)('$title', { timeout: 60_000 }, ({ title, commands, shown }) => {
    if (/netmem monitor/.test(commands[0]!) && !existsSync('/proc/net/sockstat')) return
    let out = ''
    for (const command of commands) {
      const { args, input } = parsed(command)
      const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '' }
      const run = spawnSync(process.execPath, [bin, ...args], {
        encoding: 'utf8',
        cwd: docs,
        env,
        input,
        timeout: 50_000,
      })
      expect([command, run.stderr, run.status === 0 || run.status === 1]).toEqual([command, '', true])
      out += run.stdout
    }
    for (const line of shown) expect(plain(out), title).toContain(plain(line))
  })
})
