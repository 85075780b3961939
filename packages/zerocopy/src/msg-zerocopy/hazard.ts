/**
 * The hazard of sending by reference: until the notification the pages belong to the packet as much as to the
 * program, and who writes them changes what goes out. Here that can be seen. A watch keeps what the bytes were at
 * the send and looks again when the kernel lets go of the pages; a difference names the send.
 *
 * Costs a copy of every byte, so it is for tests and reports, not for measurements. Bytes that the kernel copied
 * (loopback, a slow device) are compared when it copies them; what the program writes later does no harm.
 */
import { type IovIter, iovIterAdvance, iovIterRevert, iovIterSingleSegCount, iterAddr } from '@netmem/memory'
import { type SkBuff, ubufIndex } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import type { MsgZerocopy } from './ubuf.js'

/** Pages that were written while packets referred to them. */
export interface ZerocopyHazard {
  readonly sock: number
  /** Id of the send, as the notification counts them. */
  readonly send: number
  /** Byte of the send that changed first, and how many of it did. */
  readonly firstByte: number
  readonly bytes: number
  /** A sentence for a report. */
  readonly words: string
}

/** One send's bytes as they were: a list of pieces that lie together in memory. */
interface Watched {
  readonly send: number
  readonly addrs: number[]
  readonly bytes: Uint8Array[]
  copied: number
}

export class ZerocopyHazards {
  readonly found: ZerocopyHazard[] = []
  /** By the notification's packet. */
  private readonly watched = new Map<number, Watched[]>()

  /** Called before `bytes` more from `iter` become fragments. */
  pinned(zc: MsgZerocopy, _sk: Sock, ubuf: number, iter: IovIter, bytes: number): void {
    const note = zc.skbOf(ubufIndex(ubuf))
    const send = (note.cb1 + (note.cb2 & 0xffff) - 1) >>> 0
    let list = this.watched.get(note.id)
    if (list === undefined) {
      list = []
      this.watched.set(note.id, list)
    }
    let last = list[list.length - 1]
    if (last === undefined || last.send !== send) {
      last = { send, addrs: [], bytes: [], copied: 0 }
      list.push(last)
    }
    const { u8 } = zc.socks.mem
    const wanted = Math.min(bytes, iter.count)
    for (let done = 0; done < wanted; ) {
      const at = iterAddr(iter) >>> 0
      const chunk = Math.min(wanted - done, iovIterSingleSegCount(iter), 4096 - (at & 4095))
      last.addrs.push(at)
      last.bytes.push(u8.slice(at, at + chunk))
      iovIterAdvance(iter, chunk)
      done += chunk
    }
    iovIterRevert(iter, wanted)
  }

  /** The kernel has just copied a packet's bytes. */
  copied(note: SkBuff, skb: SkBuff | null): void {
    const list = this.watched.get(note.id)
    if (list === undefined || skb === null) return
    this.compare(list, note, note.sk)
    // From here on only what was not in this packet can still go wrong.
    let left = skb.dataLen
    for (const send of list) {
      const size = send.bytes.reduce((sum, piece) => sum + piece.length, 0) - send.copied
      const part = Math.min(left, size)
      send.copied += part
      left -= part
    }
  }

  /** The last packet let go. */
  completed(note: SkBuff, sk: Sock): void {
    const list = this.watched.get(note.id)
    if (list === undefined) return
    this.watched.delete(note.id)
    this.compare(
      list.filter((send) => send.copied < send.bytes.reduce((sum, piece) => sum + piece.length, 0)),
      note,
      sk.id,
    )
  }

  private compare(list: readonly Watched[], note: SkBuff, sock: number): void {
    const { u8 } = note.env
    for (const { send, addrs, bytes } of list) {
      if (this.found.some((hazard) => hazard.sock === sock && hazard.send === send)) continue
      let first = -1
      let changed = 0
      let at = 0
      for (const [i, piece] of bytes.entries())
        for (let j = 0; j < piece.length; j++, at++)
          if (u8[addrs[i] + j] !== piece[j]) {
            changed += 1
            if (first < 0) first = at
          }
      if (changed === 0) continue
      const words = `send ${send} of socket ${sock}: ${changed} of ${at} bytes were written before it was done, from byte ${first} on`
      this.found.push({ sock, send, firstByte: first, bytes: changed, words })
    }
  }
}
