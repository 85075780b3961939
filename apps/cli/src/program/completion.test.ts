import { spawnSync } from 'node:child_process'
import { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { completionScript } from './completion.js'
import { addHostCommands } from './host.js'
import { addSizeCommands } from './size.js'

const netmem = new Command('netmem')
addSizeCommands(netmem)
addHostCommands(netmem)

/** What bash offers after these words. */
function offered(...words: string[]): string[] {
  const script = `${completionScript('bash', netmem)}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
_netmem; printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, stderr, status } = spawnSync('bash', ['-c', script], { encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, ''])
  return stdout.trim().split('\n')
}

const hasBash = spawnSync('bash', ['-c', 'true']).status === 0

describe('completion', () => {
  it.skipIf(!hasBash)('offers commands, commands below them, and their options', () => {
    expect(offered('netmem', '')).toEqual(['size', 'tune', 'monitor'])
    expect(offered('netmem', 's')).toEqual(['size'])
    expect(offered('netmem', 'size', 'tcp')).toEqual(['tcp_mem'])
    expect(offered('netmem', 'size', 'tcp_mem', '--r')).toEqual(['--rtt', '--rate'])
    expect(offered('netmem', 'tune', '--roll')).toEqual(['--rollback'])
  })

  it('knows every option in every shell', () => {
    for (const shell of ['bash', 'zsh', 'fish'])
      for (const option of ['rollback', 'connections', 'serve'])
        expect(completionScript(shell, netmem)).toContain(option)
  })
})
