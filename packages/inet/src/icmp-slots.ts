/**
 * ICMP errors, as the layers below ICMP send them: by slots, which `icmpInit` fills. IP cannot import ICMP,
 * which is built on IP.
 */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import type { InetEnv } from './inet-env.js'

/** Sends an ICMP error about a packet; the packet stays the caller's. `data` may be at any header. */
export type IcmpSend = (cpu: Cpu, skb: SkBuff, type: number, code: number, info: number) => void

export const ICMP_DEST_UNREACH = 3
export const ICMP_TIME_EXCEEDED = 11
export const ICMP_PROT_UNREACH = 2
export const ICMP_PORT_UNREACH = 3
export const ICMP_FRAG_NEEDED = 4
export const ICMP_EXC_FRAGTIME = 1
export const ICMPV6_DEST_UNREACH = 1
export const ICMPV6_PKT_TOOBIG = 2
export const ICMPV6_TIME_EXCEED = 3
export const ICMPV6_PORT_UNREACH = 4
export const ICMPV6_EXC_FRAGTIME = 1

/** The two slots of a machine. */
export interface IcmpSlots {
  icmpSend: IcmpSend
  icmp6Send: IcmpSend
}

export const icmpSlotsOf = (env: InetEnv): IcmpSlots => env.owned.icmp as IcmpSlots

/** Models `icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)`. */
export function icmpSendProtUnreach(env: InetEnv, cpu: Cpu, skb: SkBuff): void {
  icmpSlotsOf(env).icmpSend(cpu, skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)
}

/** Models `icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)`. */
export function icmpSendPortUnreach(env: InetEnv, cpu: Cpu, skb: SkBuff): void {
  icmpSlotsOf(env).icmpSend(cpu, skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
}

/** Models `icmp_send(skb, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)`. */
export function icmpSendTimeExceeded(env: InetEnv, cpu: Cpu, skb: SkBuff): void {
  icmpSlotsOf(env).icmpSend(cpu, skb, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)
}
