/** Models `BPF_MAP_TYPE_XSKMAP`: which socket a program's redirect reaches, by key. Sockets leave it when they close. */
import { ERRNO } from '@netmem/base'
import type { XdpMap, XdpTarget } from '@netmem/virtual-nic'
import type { XdpSock } from './xsk-sock.js'

/** Models `struct xsk_map` (net/xdp/xskmap.c). */
export class XskMap implements XdpMap {
  readonly slots: (XdpTarget | null)[]

  /** @param entries at least 1. */
  constructor(entries: number) {
    if (!(Number.isInteger(entries) && entries > 0)) throw new RangeError(`a map of ${entries} entries: at least 1`)
    this.slots = new Array<XdpTarget | null>(entries).fill(null)
  }

  /** Models `xsk_map_update_elem`. @returns 0, or -E2BIG for a key beyond the map. */
  update(key: number, xs: XdpSock): number {
    if (key >= this.slots.length) return -ERRNO.E2BIG
    const old = this.slots[key]?.xsk as XdpSock | undefined
    this.slots[key] = { dev: null, xsk: xs }
    xs.maps.add(this)
    if (old !== undefined && old !== xs && !this.names(old)) old.maps.delete(this)
    return 0
  }

  /** Models `xsk_map_delete_elem`. @returns 0, or -EINVAL for a key beyond the map. */
  delete(key: number): number {
    if (key >= this.slots.length) return -ERRNO.EINVAL
    const old = this.slots[key]?.xsk as XdpSock | undefined
    this.slots[key] = null
    if (old !== undefined && !this.names(old)) old.maps.delete(this)
    return 0
  }

  /** Models `xsk_map_try_sock_delete`: the socket goes, from every key. */
  remove(xs: XdpSock): void {
    for (let key = 0; key < this.slots.length; key++) if (this.slots[key]?.xsk === xs) this.slots[key] = null
    xs.maps.delete(this)
  }

  private names(xs: XdpSock): boolean {
    return this.slots.some((slot) => slot?.xsk === xs)
  }
}
