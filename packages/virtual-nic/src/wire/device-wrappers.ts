/**
 * Wrappers around a device's transmit: they watch or spoil what leaves, whatever the driver. They compose: the
 * latest sees a packet first.
 */
import { type Cpu, Prng } from '@netmem/base'
import { kfreeSkb, pskbMayPull, type SkBuff, skbClone, skbCow, skbHeadlen } from '@netmem/skbuff'
import { NETDEV_TX_OK, type NetDevice, type NetDeviceOps, TX_DROPPED } from '../net-device.js'

type StartXmit = NetDeviceOps['startXmit']

/** Replaces a device's transmit by one that may call the former. @returns the function that undoes it. */
export function wrapStartXmit(dev: NetDevice, wrap: (next: StartXmit) => StartXmit): () => void {
  const former = dev.ops
  const next: StartXmit = (cpu, skb, d) => former.startXmit(cpu, skb, d)
  dev.ops = { ...former, startXmit: wrap(next) }
  const ours = dev.ops
  return () => {
    if (dev.ops !== ours) throw new RangeError(`${dev.name}: a wrapper put on later is still there`)
    dev.ops = former
  }
}

/** What a tracing wrapper tells: before the driver gets the packet, and what the driver said. */
export interface XmitTrace {
  readonly dev: string
  readonly len: number
  readonly truesize: number
  readonly rc: number
}

/** Tells of every packet that a device is asked to send. */
export const deviceTracer = (dev: NetDevice, sink: (event: XmitTrace) => void): (() => void) =>
  wrapStartXmit(dev, (next) => (cpu, skb, d) => {
    const { len, truesize } = skb
    const rc = next(cpu, skb, d)
    sink({ dev: d.name, len, truesize, rc })
    return rc
  })

/** Faults of a sending device, as probabilities; see `LinkParams` for those of a cable. */
export interface DeviceFaults {
  readonly seed?: number
  readonly loss?: number
  readonly duplicate?: number
  readonly corrupt?: number
}

/** Loses, doubles or damages packets before the driver sees them. A loss counts as `tx_dropped`. */
export function deviceFaults(dev: NetDevice, p: DeviceFaults): () => void {
  const rng = new Prng(p.seed ?? 1)
  const chance = (probability: number | undefined): boolean => probability !== undefined && rng.unit() < probability
  return wrapStartXmit(dev, (next) => (cpu: Cpu, skb: SkBuff, d: NetDevice) => {
    if (chance(p.loss)) {
      d.stats[TX_DROPPED]!++
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'fault_injector')
      return NETDEV_TX_OK
    }
    const twin = chance(p.duplicate) ? skbClone(cpu, skb, d.env.mem.gfp.GFP_ATOMIC) : null
    // A damaged packet must be its own: a clone's bytes are somebody else's too.
    if (chance(p.corrupt) && pskbMayPull(cpu, skb, 1) && skbCow(cpu, skb, 0) === 0) {
      const bit = rng.below(skbHeadlen(skb) * 8)
      d.env.mem.u8[(skb.data + (bit >> 3)) >>> 0]! ^= 1 << (bit & 7)
    }
    const rc = next(cpu, skb, d)
    if (twin !== null && next(cpu, twin, d) >= 16) kfreeSkb(cpu, twin, 'NOT_SPECIFIED', 'fault_injector')
    return rc
  })
}
