/** Taking a fragment off the front of a packet's fragment array. */
import type { Cpu } from '@netmem/base'
import { copyFrag, nrFrags, type SkBuff, setNrFrags, skbFragUnref } from '@netmem/skbuff'

/** Drops fragment 0, which has no bytes left, and moves the others up. Models part of `gro_pull_from_frag0`. */
export function dropFirstFrag(cpu: Cpu, skb: SkBuff): void {
  skbFragUnref(cpu, skb, 0, 'gro_pull_from_frag0')
  const n = nrFrags(skb) - 1
  for (let i = 0; i < n; i++) copyFrag(skb, i, skb, i + 1)
  setNrFrags(skb, n)
}
