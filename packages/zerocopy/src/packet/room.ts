/** How much room a packet socket has: what decides between dropping, queueing and going to another member. */
import type { SkBuff } from '@netmem/skbuff'
import { blockStatus } from './blocks.js'
import { TPACKET_V3 } from './constants.js'
import { framePosition, frameStatus } from './frames.js'
import type { PacketSock } from './packet-sock.js'

/** Models `ROOM_NONE`, `ROOM_LOW` and `ROOM_NORMAL`. */
export const ROOM_NONE = 0
export const ROOM_LOW = 1
export const ROOM_NORMAL = 2
/** Models `ROOM_POW_OFF`: normal is when the frame a quarter of the ring ahead is free. */
const ROOM_POW_OFF = 2

function tpacketHasRoom(po: PacketSock, powOff: number): boolean {
  const { rxRing } = po
  const len = rxRing.frameMax + 1
  let idx = rxRing.head + (powOff === 0 ? 0 : len >> powOff)
  if (idx >= len) idx -= len
  framePosition(rxRing, idx)
  return frameStatus(po, rxRing) === 0
}

function tpacketV3HasRoom(po: PacketSock, powOff: number): boolean {
  const pkc = po.rxRing.kbdq!
  const len = pkc.knumBlocks
  let idx = pkc.kactiveBlkNum + (powOff === 0 ? 0 : len >> powOff)
  if (idx >= len) idx -= len
  return blockStatus(po, po.rxRing.vec!, idx) === 0
}

/** Models `__packet_rcv_has_room` (net/packet/af_packet.c). @param skb what wants in; null for nothing yet. */
export function packetRcvHasRoomUnmarked(po: PacketSock, skb: SkBuff | null): number {
  if (po.rxRing.vec === null) {
    const { sk } = po
    const avail = sk.rcvbuf - sk.rmemAlloc - (skb === null ? 0 : skb.truesize)
    if (avail > sk.rcvbuf >> ROOM_POW_OFF) return ROOM_NORMAL
    return avail > 0 ? ROOM_LOW : ROOM_NONE
  }
  if (po.tpVersion === TPACKET_V3) {
    if (tpacketV3HasRoom(po, ROOM_POW_OFF)) return ROOM_NORMAL
    return tpacketV3HasRoom(po, 0) ? ROOM_LOW : ROOM_NONE
  }
  if (tpacketHasRoom(po, ROOM_POW_OFF)) return ROOM_NORMAL
  return tpacketHasRoom(po, 0) ? ROOM_LOW : ROOM_NONE
}

/** Models `packet_rcv_has_room`: the same, and others see whether this member is under pressure. */
export function packetRcvHasRoom(po: PacketSock, skb: SkBuff): number {
  const room = packetRcvHasRoomUnmarked(po, skb)
  po.pressure = room !== ROOM_NORMAL
  return room
}

/** Models `packet_rcv_try_clear_pressure`: the user has read something. */
export function packetRcvTryClearPressure(po: PacketSock): void {
  if (po.pressure && packetRcvHasRoomUnmarked(po, null) === ROOM_NORMAL) po.pressure = false
}
