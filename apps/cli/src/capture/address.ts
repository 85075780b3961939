/** Network addresses as four signed 32-bit words (IPv4 in the last), and as people write them. */
import { isIPv4, isIPv6 } from 'node:net'

export interface HostAddress {
  readonly version: 4 | 6
  readonly w0: number
  readonly w1: number
  readonly w2: number
  readonly w3: number
  readonly text: string
}

export function addressFromWords(version: number, w0: number, w1: number, w2: number, w3: number): HostAddress {
  return { version: version === 6 ? 6 : 4, w0, w1, w2, w3, text: addressText(version, w0, w1, w2, w3) }
}

/** @returns `192.0.2.1`, or IPv6 in its shortest form. */
export function addressText(version: number, w0: number, w1: number, w2: number, w3: number): string {
  if (version !== 6) return [w3 >>> 24, (w3 >>> 16) & 255, (w3 >>> 8) & 255, w3 & 255].join('.')
  const groups = [w0, w1, w2, w3].flatMap((w) => [w >>> 16, w & 0xffff])
  let best = -1
  let bestLength = 1
  for (let from = 0; from < 8; from++) {
    let length = 0
    while (from + length < 8 && groups[from + length] === 0) length += 1
    if (length > bestLength) {
      best = from
      bestLength = length
    }
  }
  const hex = groups.map((group) => group.toString(16))
  if (best < 0) return hex.join(':')
  return `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}`
}

/** @returns null when the text is not an address. */
export function parseAddress(text: string): HostAddress | null {
  if (isIPv4(text)) {
    const parts = text.split('.').map(Number)
    const word = (parts[0] << 24) | (parts[1] << 16) | (parts[2] << 8) | parts[3]
    return addressFromWords(4, 0, 0, 0, word)
  }
  if (!isIPv6(text) || text.includes('%')) return null
  let plain = text
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text)
  if (dotted) {
    const v4 = parseAddress(dotted[2]) as HostAddress
    plain = `${dotted[1]}${(v4.w3 >>> 16).toString(16)}:${(v4.w3 & 0xffff).toString(16)}`
  }
  const [head, tail] = plain.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const groups = [...left, ...new Array(8 - left.length - right.length).fill('0'), ...right].map((g) => parseInt(g, 16))
  const word = (i: number): number => (groups[i * 2] << 16) | groups[i * 2 + 1]
  return addressFromWords(6, word(0), word(1), word(2), word(3))
}
