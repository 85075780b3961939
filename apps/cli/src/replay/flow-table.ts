/**
 * Connections by their four numbers: an open hash in typed arrays, so that looking one up allocates
 * nothing. Values are small numbers that the owner chooses (an index into its own list).
 */

const WORDS = 7
/** Local address word of the hash is left out: hosts are few. */
const FIRST_SLOTS = 1 << 10

export class FlowTable {
  private slots = FIRST_SLOTS
  /** Per slot: remote address (4), both ports, local address number and IP version, value + 1 (0: free). */
  private keys = new Int32Array(FIRST_SLOTS * WORDS)
  count = 0

  /**
   * @param ports local port in the upper half, remote port in the lower.
   * @param local a small number for the local address and IP version.
   * @returns the value stored for it, or -1.
   */
  get(r0: number, r1: number, r2: number, r3: number, ports: number, local: number): number {
    const { keys } = this
    let slot = hash(r0, r1, r2, r3, ports) & (this.slots - 1)
    for (;;) {
      const k = slot * WORDS
      const value = keys[k + 6]
      if (value === 0) return -1
      if (
        keys[k + 3] === r3 &&
        keys[k + 4] === ports &&
        keys[k + 5] === local &&
        keys[k] === r0 &&
        keys[k + 1] === r1 &&
        keys[k + 2] === r2
      )
        return value - 1
      slot = (slot + 1) & (this.slots - 1)
    }
  }

  /** Adds a key that is not there, or gives a key another value. */
  set(r0: number, r1: number, r2: number, r3: number, ports: number, local: number, value: number): void {
    if (this.count * 2 >= this.slots) this.grow()
    const { keys } = this
    let slot = hash(r0, r1, r2, r3, ports) & (this.slots - 1)
    for (;;) {
      const k = slot * WORDS
      const free = keys[k + 6] === 0
      if (
        free ||
        (keys[k + 3] === r3 &&
          keys[k + 4] === ports &&
          keys[k + 5] === local &&
          keys[k] === r0 &&
          keys[k + 1] === r1 &&
          keys[k + 2] === r2)
      ) {
        if (free) this.count += 1
        keys[k] = r0
        keys[k + 1] = r1
        keys[k + 2] = r2
        keys[k + 3] = r3
        keys[k + 4] = ports
        keys[k + 5] = local
        keys[k + 6] = value + 1
        return
      }
      slot = (slot + 1) & (this.slots - 1)
    }
  }

  private grow(): void {
    const old = this.keys
    this.slots *= 2
    this.keys = new Int32Array(this.slots * WORDS)
    this.count = 0
    for (let k = 0; k < old.length; k += WORDS)
      if (old[k + 6] !== 0) this.set(old[k], old[k + 1], old[k + 2], old[k + 3], old[k + 4], old[k + 5], old[k + 6] - 1)
  }
}

function hash(r0: number, r1: number, r2: number, r3: number, ports: number): number {
  let h = Math.imul(r3 ^ Math.imul(ports, 0x85ebca6b), 0x9e3779b1)
  h ^= Math.imul(r0 ^ Math.imul(r1, 31) ^ Math.imul(r2, 961), 0xc2b2ae35)
  return (h ^ (h >>> 15)) >>> 0
}
