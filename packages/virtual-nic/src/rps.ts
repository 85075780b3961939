/**
 * Receive packet steering: the CPU that took the interrupt hands packets to the backlogs of others, one flow
 * always to the same CPU. Off until a device has a map.
 */
import type { SkBuff } from '@netmem/skbuff'
import { reciprocalScale, skbGetHash } from './flow-hash.js'
import type { NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'

/**
 * Models a write to `/sys/class/net/<dev>/queues/rx-<n>/rps_cpus` (`store_rps_map`).
 *
 * @param cpus CPU numbers; none switches steering off for the device's queue.
 * @throws RangeError for a CPU that the machine does not have.
 */
export function netdevSetRpsMap(dev: NetDevice, queue: number, cpus: readonly number[]): void {
  for (const cpu of cpus) if (dev.env.cpus[cpu] === undefined) throw new RangeError(`rps_cpus: there is no CPU ${cpu}`)
  dev.rpsMaps[queue] = cpus.length === 0 ? null : Int32Array.from(cpus)
  dev.env.rpsNeeded = dev.env.devices.some((d) => d?.rpsMaps.some((map) => map !== null) === true)
}

/** Models `get_rps_cpu` (net/core/dev.c). @returns the CPU to steer to, or -1: process it here. */
export function getRpsCpu(env: NetDevs, skb: SkBuff): number {
  const dev = env.devices[skb.dev]!
  const map = dev.rpsMaps[skb.queueMapping === 0 ? 0 : skb.queueMapping - 1]
  if (map === null || map === undefined) return -1
  skb.networkHeader = (skb.data - skb.head) | 0
  return map[reciprocalScale(skbGetHash(env, skb), map.length)]!
}
