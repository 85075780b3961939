/**
 * `netmem proc`: runs a capture or a scenario, stops before anything is closed, and writes the machine's /proc as
 * files, for programs that read one.
 */
import { closeSync, mkdirSync, openSync, readdirSync, readSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Kernel, Net } from '@netmem/kernel-model'
import { survey } from '../capture/survey.js'
import { fileProblem, InputError } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import { replayOptions } from '../replay/options.js'
import { countText } from '../report/format.js'
import { readScenario } from './run.js'
import { runScenario } from './scenario.js'

/** First words of pcap (both byte orders, both resolutions) and pcapng files. */
const CAPTURE_MAGICS = new Set([0xa1b2c3d4, 0xd4c3b2a1, 0xa1b23c4d, 0x4d3cb2a1, 0x0a0d0d0a])

/** @throws InputError where the input or a folder is not right. */
export async function procCommand(path: string, given: Record<string, unknown>): Promise<void> {
  const out = given.out as string | undefined
  if (out === undefined) throw new InputError('--out is missing: the folder that becomes the /proc of the model')
  const sysfs = given.sysfs as string | undefined
  for (const folder of [out, sysfs]) if (folder !== undefined) emptyFolder(folder)
  let files = 0
  const snapshot = (kernel: Kernel, net: Net): void => {
    files = kernel.procfs.export((file, text) => {
      if (file.startsWith('/proc/')) writeBelow(out, file.slice('/proc/'.length), text)
      else if (sysfs !== undefined) writeBelow(sysfs, file.slice('/sys/'.length), text)
    }, net)
  }
  if (isCapture(path)) {
    const options = replayOptions({ ...given, kernel: given.kernel ?? 'linux-6.18-x86_64' })
    const seen = survey(path)
    const hosts = options.hosts.length > 0 ? options.hosts : seen.busiest === null ? [] : [seen.busiest]
    const { replayCapture } = await import('../replay/replay.js')
    replayCapture(path, options, hosts, options.mtu ?? seen.mtu, () => {}, snapshot)
  } else playScenario(path, given.kernel as string | undefined, snapshot)
  if (given.json) writeJson({ schema: 'netmem-proc/1', input: path, proc: out, sys: sysfs ?? null, files })
  else writeText(`${countText(files)} files; for a program that reads them: --path.procfs=${out}`)
}

function playScenario(path: string, profile: string | undefined, snapshot: (kernel: Kernel, net: Net) => void): void {
  const scenario = readScenario(path)
  scenario.located(() => {
    runScenario(scenario.json, scenario.name, profile, {
      // The namespace of the process that makes the calls, as it stands after the last step.
      afterLastStep: (kernel) => snapshot(kernel, kernel.processes[0]?.net ?? kernel.initNet),
    })
  })
}

function isCapture(path: string): boolean {
  const word = Buffer.alloc(4)
  try {
    const file = openSync(path, 'r')
    try {
      return readSync(file, word, 0, 4, 0) === 4 && CAPTURE_MAGICS.has(word.readUInt32BE(0))
    } finally {
      closeSync(file)
    }
  } catch (error) {
    throw new InputError(`${path}: ${fileProblem(error)}`)
  }
}

/** What lies there already would be taken for the model's. */
function emptyFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true })
    if (readdirSync(folder).length > 0)
      throw new InputError(`${folder}: is not empty; give a folder that is, or a new one`)
  } catch (error) {
    if (error instanceof InputError) throw error
    throw new InputError(`${folder}: ${fileProblem(error)}`)
  }
}

function writeBelow(folder: string, file: string, text: string): void {
  const path = join(folder, file)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}
