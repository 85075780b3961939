/**
 * A real TLS handshake of OpenSSL with itself, through Node's `tls` module, with the test in the middle of the wire:
 * afterwards one side is a live TLS connection, and the model takes the other side's place. Test code.
 */
import { Duplex } from 'node:stream'
import tls from 'node:tls'
import { getCipherDesc, type TlsCipherDesc } from '@netmem/zerocopy'
import { selfSigned } from './certificate.js'
import { type DirectionKeys, tls12Keys, tls13Keys } from './secrets.js'

/** A suite as OpenSSL calls it, and the kernel's number for its cipher. */
export interface Suite {
  readonly name: string
  readonly cipher: number
  readonly tls13: boolean
  readonly hash: string
}

/** One end of a wire that the test carries bytes over. */
class WireEnd extends Duplex {
  onBytes: (data: Buffer) => void = () => {}

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.onBytes(Buffer.from(chunk))
    done()
  }
}

/** What is left after the handshake: OpenSSL's end, and what the other end needs to go on in its place. */
export interface Connection {
  readonly peer: tls.TLSSocket
  readonly suite: Suite
  readonly desc: TlsCipherDesc
  /** Keys and next sequence numbers of the side that the model plays. */
  readonly tx: DirectionKeys
  readonly rx: DirectionKeys
  readonly txSequence: number
  readonly rxSequence: number
  /** Secrets of TLS 1.3 in both directions, for further keys. */
  readonly txSecret: Buffer
  readonly rxSecret: Buffer
  /** Bytes to OpenSSL, and what it sends. */
  toPeer(data: Uint8Array): void
  fromPeer(): Promise<Buffer>
  close(): void
}

/** @returns how many records of a type begin in a stream of whole records. */
function countRecords(data: Buffer, type: number): number {
  let count = 0
  for (let at = 0; at < data.length; at += 5 + data.readUInt16BE(at + 3)) if (data[at] === type) count += 1
  return count
}

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Shakes hands. @param role which side the model is going to play. */
export async function shakeHands(suite: Suite, role: 'client' | 'server'): Promise<Connection> {
  const clientEnd = new WireEnd()
  const serverEnd = new WireEnd()
  const wire = { client: [] as Buffer[], server: [] as Buffer[] }
  const pending: { to: WireEnd; data: Buffer }[] = []
  clientEnd.onBytes = (data) => {
    wire.client.push(data)
    pending.push({ to: serverEnd, data })
  }
  serverEnd.onBytes = (data) => {
    wire.server.push(data)
    pending.push({ to: clientEnd, data })
  }
  const version = suite.tls13 ? 'TLSv1.3' : 'TLSv1.2'
  const common = { minVersion: version, maxVersion: version, ciphers: suite.name } as const
  const server = new tls.TLSSocket(serverEnd, {
    isServer: true,
    secureContext: tls.createSecureContext({ ...selfSigned(), ...common }),
  })
  const client = tls.connect({ socket: clientEnd, rejectUnauthorized: false, ...common })
  const secrets = new Map<string, Buffer>()
  client.on('keylog', (line: Buffer) => {
    const [label, , secret] = line.toString().trim().split(' ')
    secrets.set(label!, Buffer.from(secret!, 'hex'))
  })
  const failed: Error[] = []
  for (const side of [client, server]) side.on('error', (error) => failed.push(error))
  const done = { client: false, server: false }
  client.on('secureConnect', () => (done.client = true))
  server.on('secure', () => (done.server = true))
  // What the server sends once the client's last word reached it is under the keys of the application.
  let serverAfter = 0
  for (let idle = 0; idle < 20; idle += 1) {
    await tick()
    const next = pending.shift()
    if (next === undefined) continue
    idle = 0
    if (next.to === clientEnd && done.client && done.server) serverAfter += countRecords(next.data, 23)
    next.to.push(next.data)
    await tick()
  }
  if (failed.length > 0 || !done.client || !done.server) throw failed[0] ?? new Error('the handshake came to nothing')
  const desc = getCipherDesc(suite.cipher)!
  const randomOf = (flight: Buffer[]): Buffer => Buffer.concat(flight).subarray(11, 43)
  const keys = suite.tls13
    ? {
        client: tls13Keys(desc, suite.hash, secrets.get('CLIENT_TRAFFIC_SECRET_0')!),
        server: tls13Keys(desc, suite.hash, secrets.get('SERVER_TRAFFIC_SECRET_0')!),
      }
    : tls12Keys(desc, suite.hash, secrets.get('CLIENT_RANDOM')!, randomOf(wire.client), randomOf(wire.server))
  // TLS 1.2 has sent one record, its Finished, under the keys; TLS 1.3 none, but for the server's tickets.
  const sequence = { client: suite.tls13 ? 0 : 1, server: suite.tls13 ? serverAfter : 1 }
  const other = role === 'client' ? 'server' : 'client'
  const secretOf = (side: string): Buffer => secrets.get(`${side.toUpperCase()}_TRAFFIC_SECRET_0`) ?? Buffer.alloc(0)
  const peer = role === 'client' ? server : client
  const peerEnd = role === 'client' ? serverEnd : clientEnd
  const sent: Buffer[] = []
  peerEnd.onBytes = (data) => sent.push(data)
  return {
    peer,
    suite,
    desc,
    tx: keys[role],
    rx: keys[other],
    txSequence: sequence[role],
    rxSequence: sequence[other],
    txSecret: secretOf(role),
    rxSecret: secretOf(other),
    toPeer: (data) => peerEnd.push(Buffer.from(data)),
    fromPeer: async () => {
      for (let i = 0; i < 4; i += 1) await tick()
      return Buffer.concat(sent.splice(0))
    },
    close: () => {
      client.destroy()
      server.destroy()
    },
  }
}
