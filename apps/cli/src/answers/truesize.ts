/** What one message costs whoever pays for it, and what it costs it for: read off the buffers that the model made. */
import type { KernelProfile } from '@netmem/base'
import { fragList, nrFrags, type SkBuff, skbEndOffset, skbHeadlen } from '@netmem/skbuff'
import { InputError } from '../errors.js'
import { openPath, type PathFacts } from './message-path.js'

/** A sum in bytes; its parts are all of it. */
export interface TruesizeAnswer {
  readonly schema: 'netmem-truesize/1'
  readonly path: string
  readonly kernel: string
  readonly payload: number
  /** What the socket is charged. */
  readonly truesize: number
  /** Packet buffers that hold the message. */
  readonly buffers: number
  readonly parts: readonly TruesizePart[]
}

export interface TruesizePart {
  readonly name: string
  readonly bytes: number
  readonly about: string
}

/** Adds up what the buffers of a message are charged for. */
class Parts {
  private readonly sums = new Map<string, { bytes: number; about: string }>()
  buffers = 0

  add(name: string, bytes: number, about: string): void {
    const part = this.sums.get(name) ?? { bytes: 0, about }
    part.bytes += bytes
    this.sums.set(name, part)
  }

  /** One buffer, and those on its fragment list, whose truesize it counts as its own. */
  buffer(skb: SkBuff): void {
    this.buffers += 1
    let own = skb.truesize
    let children = 0
    for (let id = fragList(skb); id !== 0; ) {
      const child = skb.env.skbs[id]!
      own -= child.truesize
      children += child.len
      this.buffer(child)
      id = child.next
    }
    const { headBytes, sharedInfoBytes } = skb.env.sizes
    const room = skbEndOffset(skb)
    const linear = skbHeadlen(skb)
    const before = skb.data - skb.head
    const inPages = skb.dataLen - children
    this.add('struct sk_buff', headBytes, 'the descriptor')
    this.add('headers and headroom', before, 'in front of the payload in the head: space for headers, and headers read')
    if (linear > 0) this.add('payload in the head', linear, 'bytes of the message')
    this.add('rounding of the head', room - before - linear, 'behind the payload: the allocator has few sizes')
    this.add('struct skb_shared_info', sharedInfoBytes, 'at the end of every head')
    const rest = own - headBytes - sharedInfoBytes - room
    if (inPages > 0) {
      this.add('payload in pages', inPages, `bytes of the message, in ${nrFrags(skb)} page fragment(s)`)
      this.add('rounding of pages', rest - inPages, 'what the pages are charged above the bytes they hold')
    } else if (rest !== 0) this.add('merged buffers', rest, 'memory of buffers whose bytes were taken over')
  }

  list(): TruesizePart[] {
    return [...this.sums].filter(([, { bytes }]) => bytes !== 0).map(([name, part]) => ({ name, ...part }))
  }
}

/** @throws InputError when the path takes no message of that size. */
export function truesizeOf(name: string, facts: PathFacts, profile: KernelProfile, payload: number): TruesizeAnswer {
  const path = openPath(facts, profile, null)
  // A small buffer would be the answer to another question.
  path.payer.rcvbuf = 1 << 30
  path.payer.sndbuf = 1 << 30
  // The first message of a connection finds empty caches; the second is like all that follow.
  for (let i = 0; i < 2; i++) {
    path.drain()
    const outcome = path.send(payload)
    if (!outcome.sent) throw new InputError(`${payload} bytes: not taken by this path: ${outcome.why}`)
  }
  const parts = new Parts()
  const { receiveQueue } = path.receiver
  for (let id = receiveQueue.first, left = receiveQueue.qlen; left > 0; left--) {
    const skb = receiveQueue.env.skbs[id]!
    parts.buffer(skb)
    id = skb.next
  }
  const list = parts.list()
  const truesize = path.charged()
  const summed = list.reduce((sum, part) => sum + part.bytes, 0)
  if (summed !== truesize)
    list.push({ name: 'else', bytes: truesize - summed, about: 'charged to the socket besides its queue' })
  return {
    schema: 'netmem-truesize/1',
    path: name,
    kernel: profile.name,
    payload,
    truesize,
    buffers: parts.buffers,
    parts: list,
  }
}
