/**
 * `netmem-bench`: every goal with its peer in one run, interleaved round by round, one process a case.
 * `--quick` runs everything once, briefly, and judges nothing: it shows that no benchmark has rotted.
 */
import { spawnSync } from 'node:child_process'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError } from 'commander'
import { isWholePath, loadCase, wholePathFlags } from './cases/index.js'
import { type Goal, goals } from './goals.js'
import { countAfterMark, runSteadily, type Timing, time } from './harness.js'
import { openNativePeers } from './peers/native.js'
import { asJson, asTable, type Result } from './report.js'
import type { ScaleResult } from './scale.js'
import { UNTRACED, untracedBundle } from './untraced.js'
import { wirePacketNs } from './wire.js'

const self = fileURLToPath(new URL('../bin/bench.js', import.meta.url))
const isNative = (name: string): boolean => /^(dpdk|libc|twin|kernel)\./.test(name)

const count = (text: string): number => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError(`"${text}" is not a whole number from 1`)
  return value
}

interface Options {
  json?: boolean
  peers?: boolean
  quick?: boolean
  rounds: number
  goal?: string[]
}

const flagsOf = (name: string): string[] => (isWholePath(name) ? wholePathFlags : [])

function measureCase(peer: string, quick: boolean): Timing {
  const untraced = peer.startsWith(UNTRACED)
  const name = untraced ? peer.slice(UNTRACED.length) : peer
  const script = untraced ? untracedBundle(new URL('../dist/', import.meta.url)) : self
  const argv = [...process.execArgv, ...flagsOf(name), script, 'case', name, ...(quick ? ['--quick'] : [])]
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8', timeout: 120_000 })
  if (status !== 0) throw new Error(`case ${name} failed: ${stderr.trim() || `exit ${status}`}`)
  return JSON.parse(stdout) as Timing
}

const STEADY_OPERATIONS = 5_000_000

function countSteady(name: string, quick: boolean): number {
  const argv = [
    '--trace-gc',
    '--trace-deopt',
    ...flagsOf(name),
    self,
    'case',
    name,
    '--steady',
    ...(quick ? ['--quick'] : []),
  ]
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, {
    encoding: 'utf8',
    timeout: 300_000,
    maxBuffer: 1 << 28,
  })
  const counts = countAfterMark(stdout)
  if (status !== 0 || counts === null) throw new Error(`case ${name} failed: ${stderr.trim() || `exit ${status}`}`)
  return counts.collections + counts.deopts
}

function runGoals(chosen: Goal[], options: Options): Result[] {
  const native = openNativePeers()
  const results: Result[] = chosen.map((goal) => ({ goal, ours: [], oursMin: Number.POSITIVE_INFINITY, peer: [] }))
  const rounds = options.quick ? 1 : options.rounds
  try {
    for (let round = 0; round < rounds; round++)
      for (const result of results) {
        const { goal } = result
        if (process.stderr.isTTY) process.stderr.write(`\r\x1b[Kround ${round + 1}/${rounds}: ${goal.id} ${goal.name}`)
        if (goal.steady === true) {
          const count = countSteady(goal.ours, options.quick === true)
          result.ours.push(count)
          result.oursMin = Math.min(result.oursMin, count)
          continue
        }
        const ours = measureCase(goal.ours, options.quick === true)
        result.ours.push(ours.median)
        result.oursMin = Math.min(result.oursMin, ours.min)
        if (goal.peer === undefined) continue
        if (goal.peer.startsWith('wire.')) result.peer.push(wirePacketNs(Number(goal.peer.slice(5))))
        else if (!isNative(goal.peer)) result.peer.push(measureCase(goal.peer, options.quick === true).median)
        else if (options.peers !== true) result.missing = 'native peers run with --peers'
        else {
          const figure = native.measure(goal.peer)
          if (typeof figure === 'number') result.peer.push(figure)
          else result.missing = figure.missing
        }
      }
  } finally {
    native.close()
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
  }
  return results
}

/** Each size in a process of its own, with room for its sockets. */
function measureScale(tcp: number, udp: number): ScaleResult {
  const flags = ['--max-old-space-size=12000', '--expose-gc', ...wholePathFlags]
  const argv = [...flags, self, 'scale-case', String(tcp), String(udp)]
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8', timeout: 900_000 })
  if (status !== 0) throw new Error(`${tcp} TCP and ${udp} UDP sockets: ${stderr.trim() || `exit ${status}`}`)
  return JSON.parse(stdout) as ScaleResult
}

const program = new Command('netmem-bench')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
  .description('Measures netmem against its peers, interleaved in one run; prints medians and ratios.')
  .option('--json', 'one JSON document on standard output')
  .option('--peers', 'run the native peers too (gcc, libdpdk-dev; root for the kernel figures)')
  .option('--quick', 'run each case once and briefly; judges nothing')
  .option('--rounds <n>', 'rounds of model and peer after one another', count, 5)
  .option('--goal <id...>', 'only these goals, for example G1 G2')
  .addHelpText(
    'after',
    '\nExamples:\n  bench.js --peers\n  bench.js --goal G1 G2 --rounds 9 --peers\n  bench.js --quick --json',
  )
  .action((options: Options) => {
    const unknown = (options.goal ?? []).filter((id) => !goals.some((goal) => goal.id === id))
    if (unknown.length > 0) {
      process.stderr.write(
        `netmem-bench: no goal ${unknown.join(', ')}; there are ${goals.map(({ id }) => id).join(', ')}\n`,
      )
      process.exitCode = 2
      return
    }
    const chosen = options.goal === undefined ? goals : goals.filter(({ id }) => options.goal!.includes(id))
    const results = runGoals(chosen, options)
    const environment = {
      node: process.version,
      cpu: cpus()[0]?.model ?? 'unknown',
      cpus: cpus().length,
      rounds: options.rounds,
    }
    process.stdout.write(options.json ? asJson(results, environment) : `${asTable(results)}\n`)
  })

program
  .command('case <name>', { hidden: true })
  .option('--quick')
  .option('--steady')
  .action(async (name: string, options: { quick?: boolean; steady?: boolean }) => {
    if (options.steady === true) {
      runSteadily(await loadCase(name), options.quick === true ? 50_000 : STEADY_OPERATIONS)
      return
    }
    const timing = time(await loadCase(name), options.quick ? 2 : 100, options.quick ? 1 : 5)
    process.stdout.write(JSON.stringify(timing))
  })

program
  .command('scale')
  .description('Measures one machine with many sockets: memory per socket, and the cost of a packet as they grow.')
  .option('--tcp <n>', 'established TCP sockets', count, 1_000_000)
  .option('--udp <n>', 'UDP sockets', count, 1_000_000)
  .option('--small <n>', 'sockets of each kind that the cost is compared with', count, 1000)
  .action((options: { tcp: number; udp: number; small: number }) => {
    const few = measureScale(options.small, options.small)
    const many = measureScale(options.tcp, options.udp)
    const growth = (key: 'nsPerUdpPacket' | 'nsPerTcpWrite'): number =>
      Math.round((many[key] / few[key] - 1) * 1000) / 10
    const result = { few, many, growthPercent: { udp: growth('nsPerUdpPacket'), tcp: growth('nsPerTcpWrite') } }
    process.stdout.write(`${JSON.stringify({ schema: 'netmem-scale/1', ...result }, null, 2)}\n`)
  })

program.command('scale-case <tcp> <udp>', { hidden: true }).action(async (tcp: string, udp: string) => {
  const { scale } = await import('./scale.js')
  process.stdout.write(JSON.stringify(scale(Number(tcp), Number(udp))))
})

await program.parseAsync()
