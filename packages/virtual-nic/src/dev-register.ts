/**
 * A device's life: registered, up, down, changed, gone.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { NETIF_F_SOFT_FEATURES, netdevFixFeatures } from './features.js'
import { IFF_UP, NetDevice, type NetDeviceOps } from './net-device.js'
import type { NetDevs, NetdevEvent } from './net-devs.js'
import { NetdevQueue, netdevTxResetQueue } from './netdev-queue.js'
import { netDevsRecountTaps } from './packet-type.js'
import { qdiscReset } from './pfifo-fast.js'
import { Qdisc } from './qdisc.js'
import { localBhDisable, localBhEnable } from './softirq.js'

/** What a driver decides before it registers its device. */
export interface NetDeviceParams {
  readonly name: string
  readonly ns?: number
  readonly ops: NetDeviceOps
  readonly txQueues?: number
  readonly rxQueues?: number
  /** Fills in limits, features and addresses: models the driver's `setup` function. */
  readonly setup?: (dev: NetDevice) => void
}

/**
 * Models `alloc_netdev_mqs` and `register_netdev` (net/core/dev.c).
 *
 * @returns the device, down; or `-EEXIST` when the namespace has one of that name.
 * @throws RangeError for a name that the kernel would not take.
 */
export function netdevRegister(env: NetDevs, p: NetDeviceParams): NetDevice | number {
  if (!devValidName(p.name))
    throw new RangeError(`"${p.name}" is no valid interface name (1 to 15 bytes, no / : or space)`)
  const ns = p.ns ?? 0
  if (devGetByName(env, p.name, ns) !== null) return -ERRNO.EEXIST
  const dev = new NetDevice(env, env.devices.length, p.name, ns, p.ops)
  dev.realNumTxQueues = p.txQueues ?? 1
  dev.realNumRxQueues = p.rxQueues ?? 1
  for (let i = 0; i < dev.realNumTxQueues; i++) dev.txq.push(new NetdevQueue(dev, i))
  for (let i = 0; i < dev.realNumRxQueues; i++) dev.rpsMaps.push(null)
  p.setup?.(dev)
  // What the stack does by itself can be switched on for any device.
  dev.hwFeatures |= NETIF_F_SOFT_FEATURES
  dev.features |= NETIF_F_SOFT_FEATURES & ~dev.softFeaturesOff
  dev.wantedFeatures = dev.features & dev.hwFeatures
  dev.features = fix(dev, dev.features)
  env.devices.push(dev)
  return dev
}

/** Models `dev_valid_name`. */
export const devValidName = (name: string): boolean =>
  name.length > 0 && name.length < 16 && name !== '.' && name !== '..' && !/[/:\s]/.test(name)

/** Models `__dev_get_by_name`. */
export const devGetByName = (env: NetDevs, name: string, ns = 0): NetDevice | null =>
  env.devices.find((dev) => dev !== null && dev.name === name && dev.ns === ns) ?? null

/** Models `unregister_netdev`: down, and out of the registry; ids are not reused. */
export function netdevUnregister(env: NetDevs, dev: NetDevice, cpu: Cpu): void {
  devClose(dev, cpu)
  callNetdevNotifiers(env, cpu, 'unregister', dev)
  dev.ops.uninit?.(dev, cpu)
  env.devices[dev.id] = null
  netDevsRecountTaps(env)
}

/** Models `dev_open` and `__dev_open`. @returns 0 or what the driver said. */
export function devOpen(dev: NetDevice, cpu: Cpu): number {
  if ((dev.flags & IFF_UP) !== 0) return 0
  dev.running = true
  const rc = dev.ops.open?.(dev, cpu) ?? 0
  if (rc !== 0) {
    dev.running = false
    return rc
  }
  dev.flags |= IFF_UP
  for (const txq of dev.txq) {
    // Models dev_activate: the default qdisc, none for devices that never make anybody wait.
    txq.qdisc = dev.noQueue ? null : new Qdisc(dev.env, txq, dev.txQueueLen)
    txq.state = 0
    netdevTxResetQueue(txq)
  }
  callNetdevNotifiers(dev.env, cpu, 'up', dev)
  return 0
}

/** Models `call_netdevice_notifiers`: whoever keeps something for a device hears of its ups and downs. */
function callNetdevNotifiers(env: NetDevs, cpu: Cpu, event: NetdevEvent, dev: NetDevice): void {
  for (const notify of env.notifiers) notify(cpu, event, dev)
}

/** Models `dev_close`: what waits above the driver is freed. */
export function devClose(dev: NetDevice, cpu: Cpu): void {
  if ((dev.flags & IFF_UP) === 0) return
  dev.running = false
  localBhDisable(cpu)
  deactivate(dev, cpu)
  dev.ops.stop?.(dev, cpu)
  // The driver may have completed packets while it stopped, and so have rescheduled a queue.
  deactivate(dev, cpu)
  dev.flags &= ~IFF_UP
  callNetdevNotifiers(dev.env, cpu, 'down', dev)
  localBhEnable(dev.env, cpu)
}

/** Models `dev_deactivate`. */
function deactivate(dev: NetDevice, cpu: Cpu): void {
  for (const txq of dev.txq) {
    if (txq.qdisc === null) continue
    qdiscReset(cpu, txq.qdisc)
    for (const sd of dev.env.softnet) {
      const at = sd.outputQueue.indexOf(txq.qdisc)
      if (at >= 0) sd.outputQueue.splice(at, 1)
    }
    txq.qdisc.scheduled = false
  }
}

/** Models `dev_set_mtu` (SIOCSIFMTU). @returns 0, `-EINVAL` outside the device's limits, or what the driver said. */
export function devSetMtu(dev: NetDevice, mtu: number, cpu: Cpu): number {
  if (mtu === dev.mtu) return 0
  if (mtu < 0 || mtu < dev.minMtu || (dev.maxMtu > 0 && mtu > dev.maxMtu)) return -ERRNO.EINVAL
  if (dev.ops.changeMtu !== undefined) {
    const rc = dev.ops.changeMtu(dev, mtu, cpu)
    if (rc !== 0) return rc
  }
  dev.mtu = mtu
  return 0
}

/** Models an ethtool feature switch: wishes are kept, and take effect as far as the device and each other allow. */
export function netdevSetFeature(dev: NetDevice, bits: number, on: boolean, cpu: Cpu): number {
  const can = bits & dev.hwFeatures
  if (can === 0) return -ERRNO.ENOTSUP
  dev.wantedFeatures = on ? dev.wantedFeatures | can : dev.wantedFeatures & ~can
  netdevUpdateFeatures(dev, cpu)
  return 0
}

/** Models `__netdev_update_features`. */
export function netdevUpdateFeatures(dev: NetDevice, cpu: Cpu): void {
  const fixed = (dev.features & ~dev.hwFeatures) | (dev.wantedFeatures & dev.hwFeatures)
  const features = fix(dev, fixed)
  if (features === dev.features) return
  const rc = dev.ops.setFeatures?.(dev, features, cpu) ?? 0
  if (rc >= 0) dev.features = features
}

function fix(dev: NetDevice, features: number): number {
  const driver = dev.ops.fixFeatures?.(dev, features) ?? features
  return netdevFixFeatures(driver)
}
