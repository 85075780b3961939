/**
 * Captures in the pcap format, with nanoseconds of virtual time, as tcpdump and Wireshark read them. A writer only
 * collects bytes; who puts them into a file is up to the host.
 */
import type { EventQueue } from '@netmem/base'
import { consumeSkb, fragAddr, fragLen, fragList, nrFrags, type SkBuff, skbHeadlen } from '@netmem/skbuff'
import type { WirePort } from '../hw/nic-hw.js'
import { ARPHRD_NONE, type NetDevice } from '../net-device.js'
import { devAddPack, devRemovePack, ETH_P_ALL, PACKET_OUTGOING, type PacketType } from '../packet-type.js'

/** The magic number of captures with nanosecond time stamps. */
const PCAP_NS_MAGIC = 0xa1b23c4d
/** Models `LINKTYPE_ETHERNET` and `LINKTYPE_RAW` (a packet without link header). */
export const LINKTYPE_ETHERNET = 1
export const LINKTYPE_RAW = 101
const HEADER_BYTES = 24
const RECORD_BYTES = 16

export class PcapWriter {
  private buffer = new Uint8Array(65536)
  private view = new DataView(this.buffer.buffer)
  private used = 0
  frames = 0

  constructor(
    readonly linktype = LINKTYPE_ETHERNET,
    /** Bytes kept of each frame. */
    readonly snaplen = 262144,
  ) {
    this.view.setUint32(0, PCAP_NS_MAGIC, true)
    this.view.setUint16(4, 2, true)
    this.view.setUint16(6, 4, true)
    this.view.setUint32(16, snaplen, true)
    this.view.setUint32(20, linktype, true)
    this.used = HEADER_BYTES
  }

  /** Adds a frame of `len` bytes. @param ns virtual time. @returns where its kept bytes are to be written. */
  begin(len: number, ns: number): { bytes: Uint8Array; at: number; kept: number } {
    const kept = Math.min(len, this.snaplen)
    this.room(RECORD_BYTES + kept)
    const v = this.view
    v.setUint32(this.used, Math.floor(ns / 1e9), true)
    v.setUint32(this.used + 4, ns % 1e9, true)
    v.setUint32(this.used + 8, kept, true)
    v.setUint32(this.used + 12, len, true)
    const at = this.used + RECORD_BYTES
    this.used = at + kept
    this.frames++
    return { bytes: this.buffer, at, kept }
  }

  /** The capture so far. */
  bytes(): Uint8Array {
    return this.buffer.slice(0, this.used)
  }

  private room(more: number): void {
    if (this.used + more <= this.buffer.length) return
    const bigger = new Uint8Array(Math.max(this.buffer.length * 2, this.used + more))
    bigger.set(this.buffer)
    this.buffer = bigger
    this.view = new DataView(bigger.buffer)
  }
}

/** A port that writes down every frame on its way to the next port. */
export function pcapPort(clock: EventQueue, writer: PcapWriter, next: WirePort): WirePort {
  return {
    receive: (bytes, at, len) => {
      const out = writer.begin(len, clock.nowNs)
      out.bytes.set(bytes.subarray(at, at + out.kept), out.at)
      next.receive(bytes, at, len)
    },
  }
}

/**
 * Captures a device as tcpdump would: every packet that comes in or goes out, through a tap.
 *
 * @returns the function that ends it.
 */
export function devicePcap(dev: NetDevice, writer: PcapWriter): () => void {
  const { env } = dev
  const tap: PacketType = {
    type: ETH_P_ALL,
    dev,
    func: (cpu, skb) => {
      // On the way in the link header is behind `data`; a TUN has none.
      const pulled =
        skb.pktType === PACKET_OUTGOING || dev.type === ARPHRD_NONE ? 0 : (skb.data - skb.head - skb.macHeader) | 0
      const out = writer.begin(skb.len + pulled, env.clock.nowNs)
      writeSkb(skb, out.bytes, out.at, out.at + out.kept, pulled)
      consumeSkb(cpu, skb, 'packet_rcv')
      return 0
    },
  }
  devAddPack(env, tap)
  return () => devRemovePack(env, tap)
}

/** Copies a packet's bytes, the pulled link header first, until `end`. @returns where it stopped. */
function writeSkb(skb: SkBuff, bytes: Uint8Array, from: number, end: number, pulled: number): number {
  const { u8 } = skb.env
  let at = from
  const put = (addr: number, len: number): void => {
    const n = Math.min(len, end - at)
    bytes.set(u8.subarray(addr, addr + n), at)
    at += n
  }
  put((skb.data - pulled) >>> 0, skbHeadlen(skb) + pulled)
  for (let i = 0; i < nrFrags(skb); i++) put(fragAddr(skb, i) >>> 0, fragLen(skb, i))
  for (let id = fragList(skb); id !== 0; id = skb.env.skbs[id]!.next)
    at = writeSkb(skb.env.skbs[id]!, bytes, at, end, 0)
  return at
}
