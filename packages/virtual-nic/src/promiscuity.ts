/**
 * What a device should let through beyond its own packets, counted: it is on while anybody wants it. Differs: no
 * modelled device filters by address, so only the flags and the kernel's log tell.
 */
import { IFF_ALLMULTI, IFF_PROMISC, type NetDevice } from './net-device.js'

/** Models `dev_set_promiscuity` (net/core/dev.c). @param by 1 or -1. */
export function devSetPromiscuity(dev: NetDevice, by: number): void {
  dev.promiscuity += by
  const on = dev.promiscuity > 0
  if (on === ((dev.flags & IFF_PROMISC) !== 0)) return
  dev.flags = on ? dev.flags | IFF_PROMISC : dev.flags & ~IFF_PROMISC
  const { trace } = dev.env
  if (trace.printk !== null) trace.printk(`${dev.name}: ${on ? 'entered' : 'left'} promiscuous mode`)
}

/** Models `dev_set_allmulti`. @param by 1 or -1. */
export function devSetAllmulti(dev: NetDevice, by: number): void {
  dev.allmulti += by
  const on = dev.allmulti > 0
  if (on === ((dev.flags & IFF_ALLMULTI) !== 0)) return
  dev.flags = on ? dev.flags | IFF_ALLMULTI : dev.flags & ~IFF_ALLMULTI
  const { trace } = dev.env
  if (trace.printk !== null) trace.printk(`${dev.name}: ${on ? 'entered' : 'left'} allmulticast mode`)
}
