/** IPv4 addresses as people write them. */

/** @returns four bytes of a dotted address, in network order. @throws RangeError when it is none. */
export function ipv4Bytes(address: string): readonly [number, number, number, number] {
  const parts = address.split('.').map(Number)
  if (parts.length !== 4 || parts.some((part) => !(Number.isInteger(part) && part >= 0 && part <= 255)))
    throw new RangeError(`"${address}" is not an IPv4 address`)
  return parts as unknown as readonly [number, number, number, number]
}

/** @returns the address as the signed big-endian word that sockets and routes hold. */
export function ipv4Word(address: string): number {
  const [a, b, c, d] = ipv4Bytes(address)
  return (a << 24) | (b << 16) | (c << 8) | d
}
