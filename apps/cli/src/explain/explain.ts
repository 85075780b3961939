/**
 * Reads text that a person pasted, line by line in whatever mixture, and says what each thing in it means. Two
 * passes: limits and memory sizes may stand below the numbers that they bound.
 */
import { readCounterName, readNstat, readSnmpPair } from './counters.js'
import { readDmesg } from './dmesg.js'
import { readDropReason } from './drop-reasons.js'
import type { Facts, Finding, Line, Reader } from './finding.js'
import { holders, readSkmem, type SocketMemory } from './skmem.js'
import { readSlabinfo } from './slabinfo.js'
import { readSockstat } from './sockstat.js'
import { readSoftnet } from './softnet.js'
import { noteSysctl, readSysctl } from './sysctls.js'

export interface Explanation {
  readonly schema: 'netmem-explain/1'
  readonly lines: number
  readonly recognised: number
  readonly findings: readonly Finding[]
}

const readers: readonly Reader[] = [
  readSockstat,
  readNstat,
  readSoftnet,
  readSlabinfo,
  readSysctl,
  readDmesg,
  readDropReason,
  readCounterName,
]

/** @param memoryBytes the machine's memory where the text does not say it; null when unknown. */
export function explain(text: string, memoryBytes: number | null): Explanation {
  const lines = text.split(/\r?\n/).map((line, i): Line => ({ number: i + 1, text: line.trimEnd() }))
  const facts: Facts = { memoryBytes, pageBytes: 4096, sysctls: new Map(), counters: new Map() }
  for (const line of lines) noteSysctl(line, facts)
  const findings: Finding[] = []
  const sockets: SocketMemory[] = []
  let recognised = 0
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!
    if (line.text.trim() === '') continue
    const socket = readSkmem(line, i === 0 ? null : lines[i - 1]!.text)
    if (socket !== null) {
      sockets.push(socket.socket)
      findings.push(socket.finding)
      recognised += 1
      continue
    }
    const pair = readSnmpPair(line, lines[i + 1], facts)
    if (pair !== null) {
      findings.push(...pair)
      recognised += 2
      i += 1
      continue
    }
    for (const read of readers) {
      const found = read(line, facts)
      if (found === null) continue
      findings.push(found)
      recognised += 1
      break
    }
  }
  const together = holders(sockets)
  // What many sockets hold together comes first; each alone only where it is not fine.
  const shown =
    sockets.length > 8 ? findings.filter((found) => !/skmem/.test(found.text) || found.level !== 'fine') : findings
  return {
    schema: 'netmem-explain/1',
    lines: lines.filter((line) => line.text.trim() !== '').length,
    recognised,
    findings: together === null ? shown : [together, ...shown],
  }
}
