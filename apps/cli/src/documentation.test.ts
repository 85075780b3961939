/** The pages of docs/: every command in them runs and prints what the page says; every program is an example that runs. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
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

/** `netmem a "b c" < file` as arguments and a file. Files are named as seen from the page. */
function run(command: string, folder: string): string {
  const [words, file] = command.split(' < ')
  const args = [...words!.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!).slice(1)
  const input = file === undefined ? '' : readFileSync(join(folder, file), 'utf8')
  const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '' }
  const { stdout, stderr, status } = spawnSync(process.execPath, [bin, ...args], {
    encoding: 'utf8',
    cwd: folder,
    env,
    input,
    timeout: 50_000,
  })
  expect([command, stderr, status === 0 || status === 1]).toEqual([command, '', true])
  return stdout
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
    const out = plain(commands.map((command) => run(command, docs)).join('\n'))
    for (const line of shown) expect(out, title).toContain(plain(line))
  })
})

const guides = join(docs, 'guides')

describe.each(readdirSync(guides))('the guide %s', (name) => {
  const text = readFileSync(join(guides, name), 'utf8')
  // A command block and the lines that the page says it prints.
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```\n\n((?:> .+\n)*)/g)].map(([, commands, lines]) => ({
    commands: commands!.trim().split('\n'),
    shown: lines!.split('\n').flatMap((line) => (line.startsWith('> ') ? [line.slice(2)] : [])),
  }))
  const programs = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, program]) => program!)

  it('shows only what is tested', () => {
    expect(blocks.length + programs.length).toBeGreaterThan(0)
    expect(blocks).toHaveLength(text.split('```sh\n').length - 1)
    for (const { shown } of blocks) expect(shown.length).toBeGreaterThan(0)
  })

  it.skipIf(!existsSync(dist) || blocks.length === 0)('prints what it says', { timeout: 120_000 }, () => {
    for (const { commands, shown } of blocks) {
      const out = plain(commands.map((command) => run(command, guides)).join('\n'))
      for (const line of shown) expect(out).toContain(plain(line))
    }
  })

  it.skipIf(programs.length === 0)('has programs that are files in examples/ and run', async () => {
    const examples = join(docs, 'examples')
    const files = readdirSync(examples).filter((file) => file.endsWith('.ts'))
    for (const program of programs) {
      const file = files.find((candidate) => readFileSync(join(examples, candidate), 'utf8') === program)
      expect(file, 'a file with just this text').toBeDefined()
      await import(pathToFileURL(join(examples, file!)).href)
    }
  })

  it('links to files that exist', () => {
    for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)/g))
      expect([target, existsSync(join(guides, target!))]).toEqual([target, true])
  })
})
