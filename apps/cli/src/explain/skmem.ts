/** `skmem:(...)` of `ss -m`: the nine numbers of one socket, in bytes. */
import { bytesText, percentText } from '../report/format.js'
import { type Finding, finding, type Line, levelOf } from './finding.js'

const NUMBERS = /skmem:\(r(\d+),rb(\d+),t(\d+),tb(\d+),f(-?\d+),w(\d+),o(\d+)(?:,bl(\d+))?(?:,d(\d+))?\)/

/** What one socket holds. */
export interface SocketMemory {
  readonly line: number
  /** The line that names it, or null where only its memory was pasted. */
  readonly name: string | null
  readonly received: number
  readonly queued: number
  readonly forward: number
}

/** @returns what the line says of a socket's memory, or null. @param before the line above, which names the socket. */
export function readSkmem(line: Line, before: string | null): { finding: Finding; socket: SocketMemory } | null {
  const match = NUMBERS.exec(line.text)
  if (match === null) return null
  const [r, rb, t, tb, f, w, o, bl, d] = match.slice(1).map((text) => Number(text ?? 0))
  const means = [
    `r: ${bytesText(r)} wait for the program to read, of the receive buffer rb ${bytesText(rb)} (${percentText(r, rb)}); both count truesize: payload, headers, rounding and descriptors.`,
    `t: ${bytesText(t)} of sent packets are still in the stack or the network card; w: ${bytesText(w)} are queued to send, of the send buffer tb ${bytesText(tb)} (${percentText(Math.max(t, w), tb)}).`,
    `f: ${bytesText(f)} are charged to the protocol and free for the next packet; o: ${bytesText(o)} of option memory; bl: ${bytesText(bl)} came in while the program held the socket.`,
    `d: ${d} packets were dropped at this socket since it was made.`,
  ]
  const next: string[] = []
  let level = levelOf(r, rb)
  if (level !== 'fine')
    next.push(
      'The receive buffer is full or nearly so: the program reads too slowly, or SO_RCVBUF is too small for bursts.',
    )
  if (levelOf(Math.max(t, w), tb) !== 'fine') {
    if (level === 'fine') level = levelOf(Math.max(t, w), tb) === 'over' ? 'near' : 'note'
    next.push('The send buffer is used up: the peer or the network takes data more slowly than the program writes.')
  }
  if (d > 0 && level === 'fine') level = 'note'
  if (d > 0)
    next.push('Compare d twice: if it grows, drops go on; nstat UdpRcvbufErrors or TcpExtTCPRcvQDrop says which kind.')
  const named = before !== null && /^\s*(?:\S+\s+)?[A-Z][A-Z0-9-]+\s+\d+\s+\d+\s/.test(before)
  return {
    finding: finding(line, level, means, next),
    socket: {
      line: line.number,
      name: named ? before!.trim().replace(/\s+/g, ' ') : null,
      received: r,
      queued: Math.max(t, w),
      forward: f,
    },
  }
}

/** Who holds most, where several sockets were pasted. @returns null for fewer than two. */
export function holders(sockets: readonly SocketMemory[]): Finding | null {
  if (sockets.length < 2) return null
  const total = (of: (socket: SocketMemory) => number): number => sockets.reduce((sum, socket) => sum + of(socket), 0)
  const held = (socket: SocketMemory): number => socket.received + socket.queued
  const all = total(held)
  const most = [...sockets].sort((a, b) => held(b) - held(a)).slice(0, 3)
  return {
    line: sockets[0]!.line,
    text: `${sockets.length} sockets`,
    level: 'note',
    means: [
      `Together they hold ${bytesText(all)}: ${bytesText(total((s) => s.received))} unread, ${bytesText(total((s) => s.queued))} on the way out; ${bytesText(total((s) => s.forward))} more are charged in advance.`,
      ...most
        .filter((socket) => held(socket) > 0)
        .map(
          (socket) =>
            `${bytesText(held(socket))} (${percentText(held(socket), all)}) by ${socket.name ?? `the socket of line ${socket.line}`}.`,
        ),
    ],
    next: [],
  }
}
