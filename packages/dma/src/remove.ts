/** A device goes away: its driver is unbound, and what it forgot to unmap comes to light. */
import type { Cpu } from '@netmem/base'
import { debugDmaDeviceRemoved } from './debug.js'
import type { DmaDebugEntry } from './debug-entries.js'
import type { Device } from './device.js'
import { iommuDetachDevice } from './iommu-dma.js'

/**
 * Unbinds and removes a device. With the debug facility on, mappings that are left are reported.
 *
 * @returns the mappings and coherent blocks that are left, with where each was made when the facility is on.
 */
export function deviceRemove(cpu: Cpu, dev: Device): { count: number; leaks: DmaDebugEntry[] } {
  const { env } = dev
  const count = dev.mappings + dev.coherentBlocks
  const leaks = env.debug?.entries.ofDevice(dev) ?? []
  if (env.debug !== null) debugDmaDeviceRemoved(env.debug, dev, 'device_unbind')
  dev.removed = true
  iommuDetachDevice(cpu, dev)
  return { count, leaks }
}
