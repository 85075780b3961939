/** `netmem tune`: proposes settings to this machine; writes them only when told to, and can take them back. */
import type { ProcHost } from '@netmem/kernel-model'
import { EXIT_NO, InputError } from '../errors.js'
import type { Facts } from '../explain/finding.js'
import { readSysctl } from '../explain/sysctls.js'
import { realHost } from '../host/real-proc.js'
import { writeJson, writeResultFile, writeText } from '../output.js'
import { durationNs, kernelOf, rateBytes, whole } from '../quantities.js'
import { settingsFile, tuneText, writesText } from '../report/tune-text.js'
import { sizeTcpMem } from '../sizing/tcp-mem.js'
import { apply, rollback } from '../tune/apply.js'
import { type MachineSigns, machineSigns, sysctlText } from '../tune/machine-signs.js'
import { type Load, type Proposal, proposals } from '../tune/proposals.js'
import { fromWorkload } from '../tune/workload.js'

type Options = Readonly<Record<string, unknown>>

/** @throws InputError */
export function tuneCommand(options: Options): void {
  const root = options.root === undefined ? {} : { root: String(options.root) }
  const state = String(options.state)
  if (options.rollback === true) {
    takeBack(realHost({ ...root, writable: true }), state, options)
    return
  }
  const host = realHost({ ...root, writable: options.apply === true })
  const signs = machineSigns(host)
  if (signs.memoryBytes === 0)
    throw new InputError(`${options.root ?? '/'}: no /proc/meminfo here; expected Linux, or --root of a copied tree`)
  const found = [
    ...proposals(host, signs, loadOf(options)),
    ...workloadOf(host, options, signs),
    ...setBy(host, options, signs),
  ]
  // What the user sets counts, whatever else was found.
  const wanted = [...new Map(found.map((proposal) => [proposal.name, proposal])).values()]
  if (options.out !== undefined) writeResultFile(String(options.out), settingsFile(wanted))
  if (options.apply !== true) {
    if (options.json) writeJson({ schema: 'netmem-tune/1', machine: facts(signs), proposals: wanted })
    else writeText(tuneText(signs, wanted))
    return
  }
  if (wanted.length === 0) {
    if (options.json) writeJson({ schema: 'netmem-tune/1', machine: facts(signs), proposals: [], writes: [] })
    else writeText('Nothing to change, nothing was written.')
    return
  }
  const writes = apply(
    host,
    state,
    wanted.map(({ name, proposed }) => ({ name, value: proposed })),
  )
  if (options.json) writeJson({ schema: 'netmem-tune/1', machine: facts(signs), proposals: wanted, writes })
  else writeText(writesText(writes, state))
  if (writes.some(({ problem }) => problem !== null)) process.exitCode = EXIT_NO
}

function takeBack(host: ProcHost, state: string, options: Options): void {
  const writes = rollback(host, state)
  if (options.json) writeJson({ schema: 'netmem-tune/1', writes })
  else writeText(writes.length === 0 ? `Nothing to take back: there is no ${state}.` : writesText(writes, null))
  if (writes.some(({ problem }) => problem !== null)) process.exitCode = EXIT_NO
}

const facts = ({ release, memoryBytes, cpus }: MachineSigns) => ({ release, memoryBytes, cpus })

/** All three of a load, or none. */
function loadOf(options: Options): Load | null {
  const names = ['connections', 'rtt', 'rate'] as const
  const given = names.filter((name) => options[name] !== undefined)
  if (given.length === 0) return null
  if (given.length < names.length)
    throw new InputError(`--${given.join(', --')}: a load needs --connections, --rtt and --rate together`)
  const load = {
    connections: whole('--connections', String(options.connections), 1, 10_000_000),
    rttNs: durationNs('--rtt', String(options.rtt), 1000, 60e9),
    rateBytes: rateBytes('--rate', String(options.rate)),
  }
  const { settings } = sizeTcpMem({ profile: kernelOf(String(options.kernel)), memoryBytes: null, ...load })
  return { ...load, tcpMem: settings[0]!.split('= ')[1]!.split(' ').map(Number) }
}

function workloadOf(host: ProcHost, options: Options, signs: MachineSigns): Proposal[] {
  if (options.workload === undefined) return []
  const question = { path: String(options.workload), reader: String(options.reader), kernel: String(options.kernel) }
  const proposal = fromWorkload(host, question, signs.memoryBytes)
  return proposal === null ? [] : [proposal]
}

/** `--set name=value`, refused where it cannot work on this machine. */
function setBy(host: ProcHost, options: Options, { memoryBytes }: MachineSigns): Proposal[] {
  return ((options.set as string[] | undefined) ?? [])
    .map((text) => {
      const at = text.indexOf('=')
      const name = text.slice(0, at).trim()
      const proposed = text
        .slice(at + 1)
        .trim()
        .replace(/\s+/g, ' ')
      if (at < 1 || !/^(net|vm)\.[\w.-]+$/.test(name) || proposed === '')
        throw new InputError(`--set ${text}: expected name=value, such as net.core.rmem_max=4194304`)
      const current = sysctlText(host, name)
      if (current === null) throw new InputError(`--set ${text}: this machine has no sysctl ${name}`)
      const known: Facts = { memoryBytes, pageBytes: 4096, sysctls: new Map(), counters: new Map() }
      const verdict = readSysctl({ number: 1, text: `${name} = ${proposed}` }, known)
      if (verdict?.level === 'mistake')
        throw new InputError(`--set ${text}: refused: ${[...verdict.means, ...verdict.next].join(' ')}`)
      return { name, current, proposed, reason: 'asked for with --set', cost: verdict?.means[0] ?? 'not known' }
    })
    .filter(({ current, proposed }) => current !== proposed)
}
