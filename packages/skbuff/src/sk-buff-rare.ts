/**
 * The members of an `SkBuff` that few packets use, in an object of their own that belongs to the descriptor for ever:
 * a thousand descriptors in use then take half the cache. `SkBuff` has them as accessors under the same names.
 */
import type { Addr } from '@netmem/base'

/** See `SkBuff` for what the members mean. Every field set once, in one order: one shape for ever. */
export class SkBuffRare {
  declare csumStart: number
  declare csumOffset: number
  declare cb0: number
  declare cb1: number
  declare cb2: number
  declare cb3: number
  declare cb4: number
  declare cb5: number
  declare cb6: number
  declare cb7: number
  declare cb8: number
  declare cb9: number
  declare cb10: number
  declare cb11: number
  declare innerTransportHeader: number
  declare innerNetworkHeader: number
  declare innerMacHeader: number
  declare innerProtocol: number
  declare vlanProto: number
  declare vlanTciValue: number
  declare markValue: number
  declare activeExtensions: number
  declare extensions: Addr

  constructor() {
    this.csumStart = 0
    this.csumOffset = 0
    this.cb0 = 0
    this.cb1 = 0
    this.cb2 = 0
    this.cb3 = 0
    this.cb4 = 0
    this.cb5 = 0
    this.cb6 = 0
    this.cb7 = 0
    this.cb8 = 0
    this.cb9 = 0
    this.cb10 = 0
    this.cb11 = 0
    this.innerTransportHeader = 0
    this.innerNetworkHeader = 0
    this.innerMacHeader = 0
    this.innerProtocol = 0
    this.vlanProto = 0
    this.vlanTciValue = 0
    this.markValue = 0
    this.activeExtensions = 0
    this.extensions = 0 as Addr
  }
}

/** Copies `skb->cb`. */
export function copySkbCb(to: SkBuffRare, from: SkBuffRare): void {
  to.cb0 = from.cb0
  to.cb1 = from.cb1
  to.cb2 = from.cb2
  to.cb3 = from.cb3
  to.cb4 = from.cb4
  to.cb5 = from.cb5
  to.cb6 = from.cb6
  to.cb7 = from.cb7
  to.cb8 = from.cb8
  to.cb9 = from.cb9
  to.cb10 = from.cb10
  to.cb11 = from.cb11
}
