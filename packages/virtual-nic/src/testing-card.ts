/** A card with one of the two ring drivers, and its receiver, for tests. */
import { type DeviceParams, deviceCreate } from '@netmem/dma'
import type { SkBuff } from '@netmem/skbuff'
import { devOpen } from './dev-register.js'
import { type PpNic, type PpNicParams, ppNicCreate } from './drivers/pp-nic.js'
import { type RingNic, type RingNicParams, ringNicCreate } from './drivers/ring-nic.js'
import { ethHwAddrSet, type NetDevice } from './net-device.js'
import { devAddPack } from './packet-type.js'
import type { TestNet } from './testing.js'

export interface TestCard<Nic> {
  readonly dev: NetDevice
  readonly nic: Nic
}

/** A page-pool card, up. @throws Error when it cannot be opened. */
export function ppCard(
  net: TestNet,
  p: Partial<PpNicParams> = {},
  device: Partial<DeviceParams> = {},
): TestCard<PpNic> {
  const dev = ppNicCreate(net.env, { name: 'eth0', device: deviceCreate(net.dma, { name: 'pci0', ...device }), ...p })
  return opened<PpNic>(net, dev)
}

/** A classic card, up. @throws Error when it cannot be opened. */
export function ringCard(
  net: TestNet,
  p: Partial<RingNicParams> = {},
  device: Partial<DeviceParams> = {},
): TestCard<RingNic> {
  const dev = ringNicCreate(net.env, { name: 'eth0', device: deviceCreate(net.dma, { name: 'pci0', ...device }), ...p })
  return opened<RingNic>(net, dev)
}

function opened<Nic>(net: TestNet, dev: NetDevice | number): TestCard<Nic> {
  if (typeof dev === 'number') throw new Error(`card: errno ${dev}`)
  ethHwAddrSet(dev, '02:00:00:00:00:01')
  const rc = devOpen(dev, net.cpu)
  if (rc !== 0) throw new Error(`card: open failed with ${rc}`)
  return { dev, nic: dev.priv as Nic }
}

/** Takes every packet of one EtherType and keeps it. The test frees them. */
export function collect(net: TestNet, type: number): SkBuff[] {
  const got: SkBuff[] = []
  devAddPack(net.env, {
    type,
    func: (_cpu, skb) => {
      got.push(skb)
      return 0
    },
  })
  return got
}
