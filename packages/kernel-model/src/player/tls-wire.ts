/** Bytes of a TLS connection as its traces write them down: records as runs, or plain bytes. */
import type { Json } from '../trace/json.js'
import type { Answer } from './answer.js'
import { sha256Hex } from './sha256.js'

const HEADER_BYTES = 5
/** Longest run of bytes that a receive is written down with in full. */
const DATA_SHOWN = 32
const DIGITS_SHOWN = 16

export const toHex = (data: Uint8Array): string =>
  Array.from(data, (byte) => byte.toString(16).padStart(2, '0')).join('')

export function fromHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16))
}

/** What a receive gave: the bytes when they are few, else the start of their digest. */
export function dataAnswer(data: Uint8Array): Answer {
  return data.length <= DATA_SHOWN ? { data: toHex(data) } : { sha256: sha256Hex(data).slice(0, DIGITS_SHOWN) }
}

/** @returns runs `[type, version, length, how many]` and bytes missing of the last record; null when it is no TLS. */
function records(data: Uint8Array): { runs: Json[]; missing: number } | null {
  const runs: [number, string, number, number][] = []
  let at = 0
  while (at < data.length) {
    if (data.length - at < HEADER_BYTES) return { runs, missing: HEADER_BYTES - (data.length - at) }
    if (data[at + 1] !== 3 || data[at + 2] !== 3) return null
    const length = (data[at + 3]! << 8) | data[at + 4]!
    const last = runs.at(-1)
    if (last !== undefined && last[0] === data[at] && last[2] === length) last[3] += 1
    else runs.push([data[at]!, '0303', length, 1])
    at += HEADER_BYTES + length
  }
  return { runs, missing: at - data.length }
}

/** @param hex whether all bytes are asked for, not their digest. */
export function wireAnswer(data: Uint8Array, hex: boolean): Answer {
  const found = records(data)
  if (found === null) return { bytes: data.length, ...(hex ? { plain: toHex(data) } : { sha256: sha256Hex(data) }) }
  const answer: Answer = { bytes: data.length, records: found.runs }
  if (found.missing !== 0) answer.missing = found.missing
  if (hex) answer.hex = toHex(data)
  else if (data.length > 0) answer.sha256 = sha256Hex(data)
  return answer
}
