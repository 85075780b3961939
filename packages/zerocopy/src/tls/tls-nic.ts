/**
 * The crypto engine of a card: it sees each packet as it leaves the card's FIFO, before checksums are summed and large
 * packets are cut, and puts ciphertext in the place of what was read from memory. In order it needs to be told nothing;
 * a packet out of order makes the driver look the record up (`tls_get_record`) and show the card all of it again.
 */
import type { NetDevice, NicHw } from '@netmem/virtual-nic'
import { NETIF_F_HW_TLS_TX } from '@netmem/virtual-nic'
import { skMsgRead } from './sk-msg.js'
import type { TlsContext } from './tls-context.js'
import type { TlsDeviceContextTx, TlsRecordInfo } from './tls-device-context.js'
import { TLS_AAD_SPACE_SIZE, TLS_HEADER_SIZE, TLS_MAX_PAYLOAD_SIZE, tlsMakeAad, tlsMakeNonce } from './tls-framing.js'

const be16 = (u8: Uint8Array, at: number): number => (u8[at]! << 8) | u8[at + 1]!
const be32 = (u8: Uint8Array, at: number): number => (be16(u8, at) << 16) | be16(u8, at + 2)

const ETH_P_IP = 0x0800
const ETH_P_8021Q = 0x8100
const ETH_P_IPV6 = 0x86dd
const IPPROTO_TCP = 6

/** @returns where the TCP header is, or -1 when the frame has none. */
function tcpHeader(frame: Uint8Array): number {
  const at = be16(frame, 12) === ETH_P_8021Q ? 18 : 14
  const type = be16(frame, at - 2)
  if (type === ETH_P_IP && frame[at + 9] === IPPROTO_TCP) return at + (frame[at]! & 15) * 4
  return type === ETH_P_IPV6 && frame[at + 6] === IPPROTO_TCP ? at + 40 : -1
}

/** What a card with inline TLS knows: its flows, and the ciphertext of the record in hand. */
export class TlsNicEngine {
  private readonly flows: TlsContext[] = []
  private current: TlsRecordInfo | null = null
  private readonly wire = new Uint8Array(TLS_MAX_PAYLOAD_SIZE + 256)
  private readonly aad = new Uint8Array(TLS_AAD_SPACE_SIZE)
  private readonly nonce = new Uint8Array(12)

  /** Models `tls_dev_add` and `tls_dev_del`. */
  readonly ops = {
    tlsDevAdd: (flow: object): number => {
      this.flows.push(flow as TlsContext)
      return 0
    },
    tlsDevDel: (flow: object): void => {
      const at = this.flows.indexOf(flow as TlsContext)
      if (at >= 0) this.flows.splice(at, 1)
      this.current = null
    },
  }

  /** Connections that it encrypts for. */
  get flowCount(): number {
    return this.flows.length
  }

  /** @returns false when the packet must not leave: its record is not known any more. */
  encrypt(frame: Uint8Array, len: number): boolean {
    if (this.flows.length === 0) return true
    const tcp = tcpHeader(frame)
    if (tcp < 0) return true
    const ctx = this.flowOf(be16(frame, tcp), be16(frame, tcp + 2))
    if (ctx === null) return true
    const device = ctx.device as TlsDeviceContextTx
    let at = tcp + (frame[tcp + 12]! >> 4) * 4
    let seq = be32(frame, tcp + 4)
    if (at >= len) return true
    const plain = (device.startMarker - seq) | 0
    if (plain > 0) {
      // From before offload began: sent as it was then.
      at += plain
      seq = (seq + plain) | 0
      if (at >= len) return true
    }
    if (seq !== device.expectedSeq) {
      device.resyncs += 1
      this.current = null
    }
    while (at < len) {
      const record = recordOf(device, seq)
      if (record === null) {
        device.drops += 1
        return false
      }
      if (record !== this.current) this.seal(ctx, device, record)
      const start = (record.endSeq - record.msg.size) | 0
      const offset = (seq - start) | 0
      const bytes = Math.min(len - at, record.msg.size - offset)
      frame.set(this.wire.subarray(offset, offset + bytes), at)
      at += bytes
      seq = (seq + bytes) | 0
    }
    device.expectedSeq = seq
    return true
  }

  private flowOf(sport: number, dport: number): TlsContext | null {
    for (const ctx of this.flows)
      if (ctx.sk.dport === dport && ctx.localPort === sport && ctx.device !== null) return ctx
    return null
  }

  /** Reads a record out of memory as it is now, and encrypts it. */
  private seal(ctx: TlsContext, device: TlsDeviceContextTx, record: TlsRecordInfo): void {
    const { prot, sk } = ctx
    const { wire } = this
    const text = record.msg.size - prot.prependSize - prot.tagSize
    skMsgRead(sk, record.msg, 0, wire)
    const iv = wire.subarray(TLS_HEADER_SIZE, prot.prependSize)
    tlsMakeNonce(this.nonce, prot, ctx.tx, iv)
    tlsMakeAad(this.aad, prot, text, record.recSeq, wire[0]!)
    device.aead.seal(this.nonce, this.aad, wire.subarray(prot.prependSize), text)
    this.current = record
  }
}

/** Models `tls_get_record`: the record that byte `seq` of the stream is in. */
function recordOf(device: TlsDeviceContextTx, seq: number): TlsRecordInfo | null {
  for (const record of device.recordsList)
    if (((seq - record.endSeq) | 0) < 0) return ((seq - (record.endSeq - record.msg.size)) | 0) >= 0 ? record : null
  return null
}

/** Models `ethtool -K dev tls-hw-tx-offload on` on a card that can. @returns its engine. */
export function tlsNicAttach(dev: NetDevice, hw: NicHw): TlsNicEngine {
  const engine = new TlsNicEngine()
  hw.inlineTx = (frame, len) => engine.encrypt(frame, len)
  dev.tlsdevOps = engine.ops
  dev.hwFeatures |= NETIF_F_HW_TLS_TX
  dev.features |= NETIF_F_HW_TLS_TX
  return engine
}
