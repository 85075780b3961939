import crypto from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { tlsCryptoFromNode } from './node-crypto.js'
import { getCipherDesc, TLS_1_2_VERSION, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128 } from './tls-ciphers.js'
import type { TlsAead } from './tls-crypto.js'
import {
  CipherContext,
  TlsProtInfo,
  tlsAdvanceRecordSn,
  tlsFillPrepend,
  tlsMakeAad,
  tlsMakeNonce,
} from './tls-framing.js'
import { initProtInfo } from './tls-set-sw.js'

const provider = tlsCryptoFromNode(crypto)
const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replace(/\s/g, ''), 'hex'))
const toHex = (data: Uint8Array): string => Buffer.from(data).toString('hex')

function seal(name: string, key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, text: Uint8Array): string {
  const data = new Uint8Array(text.length + 16)
  data.set(text)
  ;(provider.allocAead(name, key) as TlsAead).seal(nonce, aad, data, text.length)
  return toHex(data)
}

describe('the ciphers, by their publishers’ vectors', () => {
  const text = hex(`d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39`)
  const aad = hex('feedfacedeadbeeffeedfacedeadbeefabaddad2')
  const nonce = hex('cafebabefacedbaddecaf888')

  it.each([
    [
      'feffe9928665731c6d6a8f9467308308',
      '42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091',
      '5bc94fbc3221a5db94fae95ae7121a47',
    ],
    [
      'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662',
      '76fc6ece0f4e1768cddf8853bb2d551b',
    ],
  ])('GCM, test cases 4 and 16 of its submission to NIST', (key, cipher, tag) => {
    expect(seal('gcm(aes)', hex(key), nonce, aad, text)).toBe(cipher + tag)
  })

  it('ChaCha20-Poly1305, RFC 8439 section 2.8.2', () => {
    const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i)
    const words =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
    const out = seal(
      'rfc7539(chacha20,poly1305)',
      key,
      hex('070000004041424344454647'),
      hex('50515253c0c1c2c3c4c5c6c7'),
      new TextEncoder().encode(words),
    )
    expect(out.slice(0, 32)).toBe('d31a8d34648e60db7b86afbc53ef7ec2')
    expect(out.slice(-32)).toBe('1ae10b594f09e26a7e902ecbd0600691')
  })

  /** CCM as SP 800-38C defines it, block by block. */
  function naiveCcm(key: Uint8Array, n: Uint8Array, a: Uint8Array, p: Uint8Array, tagBytes: number): string {
    const block = (data: Uint8Array): Buffer => {
      const cipher = crypto.createCipheriv('aes-128-ecb', key, null).setAutoPadding(false)
      return Buffer.concat([cipher.update(data), cipher.final()])
    }
    const pad = (data: Uint8Array): Buffer => Buffer.concat([data, Buffer.alloc((16 - (data.length % 16)) % 16)])
    const q = 15 - n.length
    const counter = (i: number): Buffer => Buffer.concat([Buffer.from([q - 1]), n, Buffer.from([i >> 16, i >> 8, i])])
    const flags = 64 + 8 * ((tagBytes - 2) / 2) + q - 1
    const first = Buffer.concat([Buffer.from([flags]), n, Buffer.from([p.length >> 16, p.length >> 8, p.length])])
    const header = pad(Buffer.concat([Buffer.from([a.length >> 8, a.length]), a]))
    let mac: Buffer = Buffer.alloc(16)
    const all = Buffer.concat([first, header, pad(p)])
    for (let at = 0; at < all.length; at += 16) mac = block(mac.map((byte, i) => byte ^ all[at + i]!))
    const cipher = p.map((byte, i) => byte ^ block(counter(1 + (i >> 4)))[i & 15]!)
    const tag = mac.subarray(0, tagBytes).map((byte, i) => byte ^ block(counter(0))[i]!)
    return toHex(cipher) + toHex(tag)
  }

  it('CCM, by the definition of SP 800-38C, which its example 3 confirms', () => {
    const key = hex('404142434445464748494a4b4c4d4e4f')
    const n = hex('101112131415161718191a1b')
    const a = Uint8Array.from({ length: 20 }, (_, i) => i)
    const p = Uint8Array.from({ length: 24 }, (_, i) => 0x20 + i)
    expect(naiveCcm(key, n, a, p, 8)).toBe('e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951')
    for (const bytes of [0, 1, 15, 16, 17, 300]) {
      const long = Uint8Array.from({ length: bytes }, (_, i) => (i * 7) & 0xff)
      expect(seal('ccm(aes)', key, n, a, long)).toBe(naiveCcm(key, n, a, long, 16))
    }
  })

  it('what was changed does not open, and what was not does', () => {
    for (const [name, keyBytes] of [
      ['gcm(aes)', 16],
      ['gcm(aes)', 32],
      ['ccm(aes)', 16],
      ['rfc7539(chacha20,poly1305)', 32],
    ] as const) {
      const key = new Uint8Array(keyBytes).fill(3)
      const aead = provider.allocAead(name, key) as TlsAead
      const sealed = hex(seal(name, key, nonce, aad, text))
      for (const at of [0, text.length - 1, text.length, sealed.length - 1]) {
        const changed = sealed.slice()
        changed[at]! ^= 0x40
        expect(aead.open(nonce, aad, changed, text.length)).toBe(false)
      }
      expect(aead.open(nonce, aad.slice(1), sealed.slice(), text.length)).toBe(false)
      expect(aead.open(nonce, aad, sealed, text.length)).toBe(true)
      expect(toHex(sealed.subarray(0, text.length))).toBe(toHex(text))
    }
  })

  it('ARIA and SM4 are not there, as on the kernels of the profiles', () => {
    for (const name of ['gcm(aria)', 'gcm(sm4)', 'ccm(sm4)'])
      expect(provider.allocAead(name, new Uint8Array(16))).toBe(null)
  })
})

/** One record by the functions that sending uses. */
function record(
  version: number,
  key: Uint8Array,
  cctx: CipherContext,
  type: number,
  text: Uint8Array,
): { wire: string; wrapped: boolean } {
  const prot = new TlsProtInfo()
  const desc = getCipherDesc(TLS_CIPHER_AES_GCM_128)!
  initProtInfo(prot, version, desc)
  const bytes = text.length + prot.tailSize
  const data = new Uint8Array(bytes + 16)
  data.set(text)
  if (prot.tailSize !== 0) data[text.length] = type
  const aad = tlsMakeAad(new Uint8Array(prot.aadSize), prot, bytes, cctx.recSeq, type)
  const nonce = tlsMakeNonce(new Uint8Array(12), prot, cctx, null)
  ;(provider.allocAead(desc.name, key) as TlsAead).seal(nonce, aad, data, bytes)
  const header = new Uint8Array(prot.prependSize)
  tlsFillPrepend(header, 0, prot, cctx, bytes, type)
  return { wire: toHex(header) + toHex(data), wrapped: tlsAdvanceRecordSn(prot, cctx) }
}

describe('records', () => {
  const text = Uint8Array.from({ length: 50 }, (_, i) => i)

  it('of the handshake in RFC 8448, section 3: data and alerts of both sides', () => {
    const client = new CipherContext()
    client.iv.set(hex('5b78923dee08579033e523d9'))
    const clientKey = hex('17422dda596ed5d9acd890e3c63f5051')
    expect(record(TLS_1_3_VERSION, clientKey, client, 23, text).wire).toBe(
      `1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4`,
    )
    expect(record(TLS_1_3_VERSION, clientKey, client, 21, hex('0100')).wire).toBe(
      '1703030013c9872760655666b74d7ff1153efd6db6d0b0e3',
    )
    const server = new CipherContext()
    server.iv.set(hex('cf782b88dd83549aadf1e984'))
    // The first record of the server is a ticket.
    server.recSeq[7] = 1
    const serverKey = hex('9f02283b6c9c07efc26bb9f2ac92e356')
    expect(record(TLS_1_3_VERSION, serverKey, server, 23, text).wire).toBe(
      `17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d`,
    )
    expect(record(TLS_1_3_VERSION, serverKey, server, 21, hex('0100')).wire).toBe(
      '1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9',
    )
  })

  it('of TLS 1.2 carry the iv, which counts with the sequence number; that one wraps last', () => {
    const cctx = new CipherContext()
    cctx.iv.set(hex('50515253 60616263646566ff'))
    cctx.recSeq.set(hex('00000000000000ff'))
    const first = record(TLS_1_2_VERSION, new Uint8Array(16), cctx, 23, text)
    expect(first.wire.slice(0, 26)).toBe('170303004a60616263646566ff')
    expect(toHex(cctx.iv)).toBe('505152536061626364656700')
    expect(toHex(cctx.recSeq)).toBe('0000000000000100')
    cctx.recSeq.fill(0xff)
    expect(record(TLS_1_2_VERSION, new Uint8Array(16), cctx, 23, text).wrapped).toBe(true)
    expect(toHex(cctx.recSeq)).toBe('0000000000000000')
  })
})
