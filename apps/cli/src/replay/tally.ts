/**
 * Where every packet of the capture ended, and what else there is to count. Reasons are numbers while the
 * replay runs (one typed array) and words only in the report.
 */

/** How a packet can end without being given to the model, or having been given to it. */
export enum Ending {
  InUdp = 0,
  InTcp = 1,
  InIcmp = 2,
  InFragment = 3,
  InOther = 4,
  OutUdp = 5,
  OutTcp = 6,
  SkipArp = 7,
  SkipNonIp = 8,
  SkipMalformed = 9,
  SkipUnreadLink = 10,
  SkipOtherHosts = 11,
  SkipGroup = 12,
  SkipLoopback = 13,
  SkipOutAck = 14,
  SkipOutAgain = 15,
  SkipOutHandshake = 16,
  SkipOutIcmp = 17,
  SkipOutFragment = 18,
  SkipOutOther = 19,
  SkipOutNoSocket = 20,
  SkipHeld = 21,
  SkipTooLong = 22,
  SkipTooManyFlows = 23,
  SkipNoStart = 24,
  SkipUnsent = 25,
  SkipIpv6 = 26,
  SkipReset = 27,
  Count = 28,
}

export const endingWords: readonly string[] = [
  'to UDP',
  'to TCP',
  'to ICMP',
  'fragments to reassembly',
  'to other protocols',
  'from UDP sockets',
  'from TCP sockets',
  'ARP (neighbours are known)',
  'not IP',
  'malformed headers',
  'of a link type that is not read',
  'between other hosts',
  'multicast or broadcast',
  'from the host to itself',
  'ACKs of the host (the model writes its own)',
  'repeated by the host (the model decides that itself)',
  'handshakes of the host (the model writes its own)',
  'ICMP of the host (the model writes its own)',
  'fragments sent by the host',
  'other protocols sent by the host',
  'refused by the socket that should send them',
  'held back by the peer: the receive window stayed closed',
  'longer than the network card takes',
  'of connections beyond the most that are followed',
  'of connections whose beginning makes no sense',
  'not sent: the send buffer stayed full',
  'IPv6 (not modelled)',
  'resets of the host (the model writes its own)',
]

/** Counters beside the endings: packets, and bytes that soon pass 2^31. */
export enum Sum {
  Read = 0,
  FramesIn = 1,
  FramesOut = 2,
  Wire = 3,
  WireIn = 4,
  WireOut = 5,
  PayloadIn = 6,
  PayloadOut = 7,
  CutFrames = 8,
  MissingBytes = 9,
  Count = 10,
}

export class Tally {
  readonly endings = new Float64Array(Ending.Count)
  readonly sums = new Float64Array(Sum.Count)

  /** @returns counts by words of the endings in `[from, to)` that happened. */
  words(from: Ending, to: Ending): Record<string, number> {
    const out: Record<string, number> = {}
    for (let ending = from as number; ending < to; ending++)
      if (this.endings[ending] > 0) out[endingWords[ending]] = this.endings[ending]
    return out
  }

  /** @returns packets whose ending is in `[from, to)`. */
  count(from: Ending, to: Ending): number {
    let sum = 0
    for (let ending = from as number; ending < to; ending++) sum += this.endings[ending]
    return sum
  }
}
