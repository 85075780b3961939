/** A captured workload on the model with this machine's settings: which buffer would have dropped nothing. */
import type { ProcHost } from '@netmem/kernel-model'
import { survey } from '../capture/survey.js'
import { InputError } from '../errors.js'
import { replayOptions } from '../replay/options.js'
import { replayCapture } from '../replay/replay.js'
import { bytesText, plural } from '../report/format.js'
import { sysctlText } from './machine-signs.js'
import type { Proposal } from './proposals.js'

const TAKEN = ['net.core.rmem_default', 'net.core.rmem_max', 'net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem']
const MOST_BUFFER = 64 << 20

export interface WorkloadQuestion {
  readonly path: string
  readonly reader: string
  readonly kernel: string
}

/** @returns a proposal, or null when the workload drops nothing for want of receive buffer. @throws InputError */
export function fromWorkload(host: ProcHost, question: WorkloadQuestion, memoryBytes: number): Proposal | null {
  const seen = survey(question.path)
  if (seen.busiest === null) throw new InputError(`${question.path}: no address in this capture receives anything`)
  const settings = TAKEN.flatMap((name) => {
    const value = sysctlText(host, name)
    return value === null ? [] : [[name, value] as const]
  })
  const dropped = (rmem: number | null): { full: number; peak: number } => {
    const sysctl = settings.map(([name, value]) =>
      rmem !== null && name.startsWith('net.core.rmem') ? `${name}=${rmem}` : `${name}=${value}`,
    )
    const given = { kernel: question.kernel, reader: question.reader, sysctl, cpus: '1', memory: '1G', ring: '512' }
    const options = replayOptions({ ...given, speed: '1', seed: '1', driver: 'page-pool' })
    const result = replayCapture(question.path, options, [seen.busiest!], seen.mtu, () => {})
    return { full: result.drops.SOCKET_RCVBUFF ?? 0, peak: result.bytes.truesizePeak }
  }
  const now = dropped(null).full
  if (now === 0) return null
  const current = Number(settings.find(([name]) => name === 'net.core.rmem_default')?.[1] ?? 212992)
  const bound = memoryBytes === 0 ? MOST_BUFFER : Math.min(MOST_BUFFER, memoryBytes / 64)
  let buffer = current
  let left = now
  while (left > 0 && buffer * 2 <= bound) {
    buffer *= 2
    left = dropped(buffer).full
  }
  if (buffer === current) return null
  return {
    name: 'net.core.rmem_default',
    current: String(current),
    proposed: String(buffer),
    reason:
      `${question.path} with a reader of ${question.reader} drops ${plural(now, 'datagram')} for want of receive buffer` +
      (left === 0 ? '; with this it drops none' : `; with this still ${left}: the reader is too slow for any buffer`),
    cost: `${bytesText(buffer)} for each socket whose reader falls behind`,
  }
}
