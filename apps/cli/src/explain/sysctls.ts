/** Sysctls with their units: which count pages, which bytes, and which were set by someone who thought otherwise. */
import { bytesText, countText, percentText } from '../report/format.js'
import { type Facts, type Finding, finding, type Level, type Line } from './finding.js'

const PAGES = ['net.ipv4.tcp_mem', 'net.ipv4.udp_mem']
const BUFFERS: Readonly<Record<string, string>> = {
  'net.core.rmem_default': 'receive buffer of a new socket that is not TCP',
  'net.core.wmem_default': 'send buffer of a new socket that is not TCP',
  'net.core.rmem_max': 'largest SO_RCVBUF that a program may ask for; the kernel then doubles it',
  'net.core.wmem_max': 'largest SO_SNDBUF that a program may ask for; the kernel then doubles it',
  'net.core.optmem_max': 'option memory of one socket: filters, ancillary data, zero-copy notices',
  'net.ipv4.udp_rmem_min': 'receive buffer that a UDP socket keeps even under pressure',
  'net.ipv4.udp_wmem_min': 'send buffer that a UDP socket keeps even under pressure',
}

/** Notes sysctls, without judging them: other lines need them first. @returns name and numbers, or null. */
export function noteSysctl(line: Line, facts: Facts): { name: string; values: readonly number[] } | null {
  const memory = /^MemTotal:\s+(\d+) kB/.exec(line.text)
  if (memory !== null) {
    facts.memoryBytes = Number(memory[1]) * 1024
    return null
  }
  const match =
    /^\s*(?:sysctl -w\s+)?\/?(?:proc\/sys\/)?((?:net|vm)[./][\w./-]+)\s*[=:]\s*"?(\d+(?:\s+\d+)*)"?\s*$/.exec(line.text)
  if (match === null) return null
  const name = match[1]!.replaceAll('/', '.')
  const values = match[2]!.split(/\s+/).map(Number)
  facts.sysctls.set(name, values)
  return { name, values }
}

export function readSysctl(line: Line, facts: Facts): Finding | null {
  const memory = /^MemTotal:\s+(\d+) kB/.exec(line.text)
  if (memory !== null)
    return finding(line, 'fine', [`The machine has ${bytesText(Number(memory[1]) * 1024)} of memory.`])
  const seen = noteSysctl(line, facts)
  if (seen === null) return null
  const { name, values } = seen
  if (PAGES.includes(name)) return pagesOf(line, name, values, facts)
  if (name === 'net.ipv4.tcp_rmem' || name === 'net.ipv4.tcp_wmem') return tripleOf(line, name, values, facts)
  const about = BUFFERS[name]
  if (about === undefined || values.length !== 1) return null
  const [value] = values as [number]
  if (facts.memoryBytes !== null && value * 2 > facts.memoryBytes / 4)
    return finding(line, 'mistake', [
      `${about}: ${bytesText(value)}. One socket could hold a quarter of the machine's memory or more.`,
    ])
  return finding(line, 'fine', [`${about}: ${bytesText(value)}.`])
}

function pagesOf(line: Line, name: string, values: readonly number[], facts: Facts): Finding {
  const sizes = values.map((value) => bytesText(value * facts.pageBytes)).join(', ')
  const means = [
    `${name} counts pages of ${facts.pageBytes} bytes, not bytes: ${values.map(countText).join(', ')} pages are ${sizes}.`,
  ]
  if (values.length !== 3)
    return finding(
      line,
      'mistake',
      [...means, 'It has three numbers: no limit below, pressure, and the most.'],
      [`sysctl -w ${name}="low pressure high"`],
    )
  const [low, pressure, high] = values as [number, number, number]
  if (low > pressure || pressure > high)
    return finding(line, 'mistake', [...means, 'The three numbers must rise: no limit below, pressure, and the most.'])
  const most = high * facts.pageBytes
  const { memoryBytes } = facts
  if (memoryBytes !== null && most > memoryBytes) {
    const asBytes =
      high <= memoryBytes
        ? `If bytes were meant, it would be ${values.map((value) => Math.max(1, Math.round(value / facts.pageBytes))).join(' ')}.`
        : ''
    return finding(
      line,
      'mistake',
      [
        ...means,
        `The last is ${percentText(most, memoryBytes)} of the machine's memory: the kernel would run out before this limit works.`,
      ],
      [asBytes].filter((words) => words !== ''),
    )
  }
  let level: Level = 'fine'
  const next: string[] = []
  if (memoryBytes === null && most > 256 * 1024 ** 3) {
    level = 'note'
    next.push(
      'That is a great deal: were bytes meant? Give --memory, or paste MemTotal of /proc/meminfo, to have it checked.',
    )
  }
  if (low === pressure && pressure === high) {
    level = 'note'
    next.push(
      'All three are equal: there is no pressure before the limit, so windows never shrink before packets are refused.',
    )
  }
  if (memoryBytes !== null && most > memoryBytes / 2) {
    level = 'note'
    next.push(
      `That is ${percentText(most, memoryBytes)} of memory; the kernel's own choice is about 9 % for TCP and 19 % for UDP.`,
    )
  }
  return finding(line, level, means, next)
}

function tripleOf(line: Line, name: string, values: readonly number[], facts: Facts): Finding {
  if (values.length !== 3)
    return finding(line, 'mistake', [`${name} has three numbers, in bytes: least, first, most of one socket's buffer.`])
  const [least, first, most] = values as [number, number, number]
  const means = [
    `${name}, in bytes for one socket: never below ${bytesText(least)} under pressure, ${bytesText(first)} at first, grown by itself up to ${bytesText(most)}.`,
  ]
  if (least > first || first > most) return finding(line, 'mistake', [...means, 'The three numbers must rise.'])
  if (facts.memoryBytes !== null && most > facts.memoryBytes / 8)
    return finding(line, 'mistake', [
      ...means,
      `One connection could take ${percentText(most, facts.memoryBytes)} of the machine's memory.`,
    ])
  if (name === 'net.ipv4.tcp_rmem' && most > 64 << 20)
    return finding(line, 'note', means, [
      'A full queue of that size takes tens of milliseconds to tidy (collapse) when it fills: keep it near rate times round trip, doubled.',
    ])
  return finding(line, 'fine', means)
}
