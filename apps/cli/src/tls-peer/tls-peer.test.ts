import { ERRNO, Prng } from '@netmem/base'
import { MSG_MORE } from '@netmem/sockmem'
import {
  TLS_CIPHER_AES_CCM_128,
  TLS_CIPHER_AES_GCM_128,
  TLS_CIPHER_AES_GCM_256,
  TLS_CIPHER_CHACHA20_POLY1305,
  TLS_RECORD_TYPE_ALERT,
  TLS_RECORD_TYPE_DATA,
  TLS_RECORD_TYPE_HANDSHAKE,
} from '@netmem/zerocopy'
import { describe, expect, it } from 'vitest'
import { type Connection, type Suite, shakeHands } from './handshake.js'
import { ModelTlsSocket } from './model-socket.js'
import { cryptoInfo, nextSecret, tls13Keys } from './secrets.js'

const SUITES: readonly Suite[] = [
  { name: 'TLS_AES_128_GCM_SHA256', cipher: TLS_CIPHER_AES_GCM_128, tls13: true, hash: 'sha256' },
  { name: 'TLS_AES_256_GCM_SHA384', cipher: TLS_CIPHER_AES_GCM_256, tls13: true, hash: 'sha384' },
  { name: 'TLS_CHACHA20_POLY1305_SHA256', cipher: TLS_CIPHER_CHACHA20_POLY1305, tls13: true, hash: 'sha256' },
  { name: 'TLS_AES_128_CCM_SHA256', cipher: TLS_CIPHER_AES_CCM_128, tls13: true, hash: 'sha256' },
  { name: 'ECDHE-ECDSA-AES128-GCM-SHA256', cipher: TLS_CIPHER_AES_GCM_128, tls13: false, hash: 'sha256' },
  { name: 'ECDHE-ECDSA-AES256-GCM-SHA384', cipher: TLS_CIPHER_AES_GCM_256, tls13: false, hash: 'sha384' },
  { name: 'ECDHE-ECDSA-CHACHA20-POLY1305', cipher: TLS_CIPHER_CHACHA20_POLY1305, tls13: false, hash: 'sha256' },
  { name: 'ECDHE-ECDSA-AES128-CCM', cipher: TLS_CIPHER_AES_CCM_128, tls13: false, hash: 'sha256' },
]
const PROFILES = ['linux-6.1-x86_64', 'linux-6.18-x86_64'] as const

function attach(connection: Connection, profile: string): ModelTlsSocket {
  const { desc, suite, tx, rx, txSequence, rxSequence } = connection
  const model = new ModelTlsSocket(profile)
  expect(model.setKey('tx', cryptoInfo(desc, suite.tls13, tx, txSequence))).toBe(0)
  expect(model.setKey('rx', cryptoInfo(desc, suite.tls13, rx, rxSequence))).toBe(0)
  return model
}

/** Bytes that OpenSSL reads when it gets all that left the model. */
async function readByPeer(connection: Connection, model: ModelTlsSocket, bytes: number): Promise<Buffer> {
  const got: Buffer[] = []
  const listen = (data: Buffer): void => void got.push(data)
  connection.peer.on('data', listen)
  connection.toPeer(model.fromModel())
  for (let i = 0; i < 200 && Buffer.concat(got).length < bytes; i += 1)
    await new Promise((resolve) => setImmediate(resolve))
  connection.peer.off('data', listen)
  return Buffer.concat(got)
}

describe.each(SUITES)('$name', (suite) => {
  it.each([
    ['client', 'linux-6.1-x86_64'],
    ['server', 'linux-6.18-x86_64'],
  ] as const)('the model as %s, %s: OpenSSL accepts its records, and it reads OpenSSL’s', async (role, profile) => {
    const connection = await shakeHands(suite, role)
    const model = attach(connection, profile)
    const prng = new Prng(suite.cipher)
    const sizes = [1, 17, 1000, 16384, 16385, 40000]
    for (const size of sizes) {
      const data = Buffer.from(Uint8Array.from({ length: size }, () => prng.below(256)))
      expect(model.send(data)).toBe(size)
      expect((await readByPeer(connection, model, size)).equals(data)).toBe(true)
    }
    for (const size of sizes) {
      const data = Buffer.from(Uint8Array.from({ length: size }, () => prng.below(256)))
      connection.peer.write(data)
      model.toModel(await connection.fromPeer())
      const parts: Buffer[] = []
      // A session ticket is a handshake message, to be read by whoever speaks TLS.
      for (let got = model.receive(); got.ret > 0; got = model.receive())
        if (got.type === TLS_RECORD_TYPE_DATA) parts.push(got.data)
      expect(Buffer.concat(parts).equals(data)).toBe(true)
    }
    model.close()
    connection.close()
  })
})

describe('beyond plain data', () => {
  const [gcm13, , , , gcm12] = SUITES as [Suite, Suite, Suite, Suite, Suite]

  it.each(PROFILES)('%s: records gathered with MSG_MORE are one record to OpenSSL', async (profile) => {
    const connection = await shakeHands(gcm12, 'server')
    const model = attach(connection, profile)
    for (const part of ['one ', 'record ', 'of '])
      expect(model.send(Buffer.from(part), undefined, MSG_MORE)).toBe(part.length)
    expect(model.fromModel()).toHaveLength(0)
    model.send(Buffer.from('four sends'))
    expect((await readByPeer(connection, model, 24)).toString()).toBe('one record of four sends')
    model.close()
    connection.close()
  })

  it.each([gcm13, gcm12])(
    'a close_notify of the model ends OpenSSL’s stream ($name), and OpenSSL’s is an alert here',
    async (suite) => {
      const connection = await shakeHands(suite, 'server')
      const model = attach(connection, 'linux-6.18-x86_64')
      const ended = new Promise<void>((resolve) => connection.peer.on('end', () => resolve()))
      connection.peer.resume()
      model.send(Buffer.from([1, 0]), TLS_RECORD_TYPE_ALERT)
      connection.toPeer(model.fromModel())
      await ended
      connection.peer.end()
      model.toModel(await connection.fromPeer())
      const got = model.receive()
      expect(got.type).toBe(TLS_RECORD_TYPE_ALERT)
      expect([...got.data]).toEqual([1, 0])
      model.close()
      connection.close()
    },
  )

  it('after a KeyUpdate both sides go on with the next keys (6.14 and later)', async () => {
    const connection = await shakeHands(gcm13, 'server')
    const model = attach(connection, 'linux-6.18-x86_64')
    const { desc, suite } = connection
    // "Please update yours too", then the new sending key.
    model.send(Buffer.from([24, 0, 0, 1, 1]), TLS_RECORD_TYPE_HANDSHAKE)
    const txNext = tls13Keys(desc, suite.hash, nextSecret(suite.hash, connection.txSecret))
    expect(model.setKey('tx', cryptoInfo(desc, true, txNext, 0))).toBe(0)
    model.send(Buffer.from('under the second key'))
    expect((await readByPeer(connection, model, 20)).toString()).toBe('under the second key')
    connection.peer.write('and back')
    model.toModel(await connection.fromPeer())
    const update = model.receive()
    expect(update.type).toBe(TLS_RECORD_TYPE_HANDSHAKE)
    expect(update.data[0]).toBe(24)
    expect(model.receive().ret).toBe(-ERRNO.EKEYEXPIRED)
    const rxNext = tls13Keys(desc, suite.hash, nextSecret(suite.hash, connection.rxSecret))
    expect(model.setKey('rx', cryptoInfo(desc, true, rxNext, 0))).toBe(0)
    expect(model.receive().data.toString()).toBe('and back')
    for (const name of ['TlsTxRekeyOk', 'TlsRxRekeyOk', 'TlsRxRekeyReceived'])
      expect(model.kernel.initNet.ns.counter(`Tls.${name}`)).toBe(1)
    model.close()
    connection.close()
  })

  it('a record that was changed on its way is refused by the model, for good', async () => {
    const connection = await shakeHands(gcm13, 'server')
    const model = attach(connection, 'linux-6.18-x86_64')
    connection.peer.write('hello')
    const record = await connection.fromPeer()
    record[record.length - 1]! ^= 1
    model.toModel(record)
    expect(model.receive().ret).toBe(-ERRNO.EBADMSG)
    expect(model.kernel.initNet.ns.counter('Tls.TlsDecryptError')).toBe(1)
    expect(model.send(Buffer.from('too late'))).toBe(-ERRNO.EBADMSG)
    expect(model.fromModel()).toHaveLength(0)
    model.close()
    connection.close()
  })

  it('a record that was changed on its way is refused by OpenSSL', async () => {
    const connection = await shakeHands(gcm13, 'server')
    const model = attach(connection, 'linux-6.18-x86_64')
    const refused = new Promise<Error>((resolve) => connection.peer.on('error', resolve))
    model.send(Buffer.from('hello'))
    const sent = model.fromModel()
    sent[7]! ^= 1
    connection.toPeer(sent)
    expect((await refused).message).toMatch(/bad record mac|decryption failed/i)
    model.close()
    connection.close()
  })
})
