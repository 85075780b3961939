/**
 * An open hash of sockets in one typed array: pairs of a 32-bit hash and a socket's id. Lookup allocates nothing and
 * stays in one or two cache lines; the socket itself is looked at only when the hash agrees.
 */
import { assert } from '@netmem/base'

const FREE = 0
const GONE = -1

export class SocketHash {
  private slots: Int32Array
  private mask: number
  private used = 0
  private live = 0

  /** @param slots a power of two; the table grows by itself. */
  constructor(slots = 64) {
    assert((slots & (slots - 1)) === 0, 'a hash has a power of two of slots')
    this.slots = new Int32Array(slots * 2)
    this.mask = slots - 1
  }

  get size(): number {
    return this.live
  }

  /** @param id the socket; the same pair may be put once only. */
  insert(hash: number, id: number): void {
    if ((this.used + 1) * 4 > (this.mask + 1) * 3) this.rebuild()
    let at = hash & this.mask
    while (this.slots[at * 2 + 1] > 0) at = (at + 1) & this.mask
    if (this.slots[at * 2 + 1] === FREE) this.used += 1
    this.slots[at * 2] = hash
    this.slots[at * 2 + 1] = id
    this.live += 1
  }

  remove(hash: number, id: number): boolean {
    for (let at = hash & this.mask; this.slots[at * 2 + 1] !== FREE; at = (at + 1) & this.mask) {
      if (this.slots[at * 2 + 1] !== id || this.slots[at * 2] !== hash) continue
      this.slots[at * 2 + 1] = GONE
      this.live -= 1
      return true
    }
    return false
  }

  /** The place of the first socket with this hash from `start` on, or -1. @param start -1 to begin. */
  probe(hash: number, start: number): number {
    const { slots, mask } = this
    let at = start < 0 ? hash & mask : (start + 1) & mask
    for (;;) {
      const id = slots[at * 2 + 1]
      if (id === FREE) return -1
      if (id > 0 && slots[at * 2] === hash) return at
      at = (at + 1) & mask
    }
  }

  /** @returns the socket at a place that `probe` gave. */
  idAt(place: number): number {
    return this.slots[place * 2 + 1]
  }

  private rebuild(): void {
    const old = this.slots
    const count = this.live * 2 >= this.mask + 1 ? (this.mask + 1) * 2 : this.mask + 1
    this.slots = new Int32Array(count * 2)
    this.mask = count - 1
    this.used = 0
    this.live = 0
    for (let at = 0; at < old.length; at += 2) if (old[at + 1] > 0) this.insert(old[at], old[at + 1])
  }
}
