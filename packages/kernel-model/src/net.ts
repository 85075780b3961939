/**
 * A network namespace of the machine: its sysctls and counters (from sockmem), its devices (from virtual-nic)
 * and its addresses and routes (from inet), found under one name.
 */
import type { NetNs } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'

export class Net {
  /** Devices by name; two namespaces may use the same name. */
  readonly devices = new Map<string, NetDevice>()
  /** The loopback device, which every namespace has from the start. */
  readonly lo: NetDevice

  constructor(
    readonly ns: NetNs,
    lo: NetDevice,
  ) {
    this.lo = lo
    this.devices.set('lo', lo)
  }

  get id(): number {
    return this.ns.id
  }
}
