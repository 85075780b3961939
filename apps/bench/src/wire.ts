/** What a packet takes on a 10 Gbit/s Ethernet, which no machine can beat. */

/** Ethernet, IPv4 and UDP headers. */
const HEADER_BYTES = 42
/** Preamble, checksum and gap. */
const FRAMING_BYTES = 8 + 4 + 12
const BITS_PER_NS = 10

/** @param payload bytes of a UDP datagram; 18 fill the smallest frame. @returns nanoseconds. */
export const wirePacketNs = (payload: number): number => ((payload + HEADER_BYTES + FRAMING_BYTES) * 8) / BITS_PER_NS
