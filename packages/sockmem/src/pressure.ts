/**
 * Memory pressure: a flag of the protocol that goes on when its pages pass the second limit and off below the
 * first, and a state of the memory group that asks its sockets to be modest. UDP has no flag at all.
 */
import type { Cpu } from '@netmem/base'
import { memCgroupSocketsEnabled, memCgroupUnderSocketPressure } from './memcg.js'
import type { Sock } from './sock.js'

/** Models `sk_has_memory_pressure`. */
export const skHasMemoryPressure = (sk: Sock): boolean => sk.proto.pressure !== null

/** Models `sk_under_global_memory_pressure`: the protocol's own flag, groups left out. */
export const skUnderGlobalMemoryPressure = (sk: Sock): boolean =>
  sk.proto.pressure !== null && sk.proto.pressure.jiffies !== 0

/** Models `sk_under_memory_pressure` (include/net/sock.h): the group's pressure or the protocol's. False without a flag. */
export function skUnderMemoryPressure(sk: Sock): boolean {
  const pressure = sk.proto.pressure
  if (pressure === null) return false
  if (sk.memcg !== null && memCgroupSocketsEnabled(sk.env) && memCgroupUnderSocketPressure(sk.env, sk.memcg))
    return true
  return pressure.jiffies !== 0
}

/** Models `sk_enter_memory_pressure` (net/core/sock.c). */
export function skEnterMemoryPressure(_cpu: Cpu, sk: Sock): void {
  if (sk.proto.pressure !== null) tcpEnterMemoryPressure(sk)
}

/** Models `sk_leave_memory_pressure` (net/core/sock.c). */
export function skLeaveMemoryPressure(_cpu: Cpu, sk: Sock): void {
  if (sk.proto.pressure !== null) tcpLeaveMemoryPressure(sk)
}

/**
 * Models `tcp_enter_memory_pressure` (net/ipv4/tcp.c). The flag, `tcp_memory_pressure`, holds the time of entry; only the
 * change from off to on is counted, in the namespace of the socket that caused it.
 */
export function tcpEnterMemoryPressure(sk: Sock): void {
  const pressure = sk.proto.pressure
  if (pressure === null || pressure.jiffies !== 0) return
  const now = sk.env.jiffies
  pressure.jiffies = now === 0 ? 0xffffffff : now
  if (sk.proto.counterEnter >= 0) sk.net.mib[sk.proto.counterEnter] += 1
}

/** Models `tcp_leave_memory_pressure` (net/ipv4/tcp.c): counts the milliseconds that the pressure lasted. */
export function tcpLeaveMemoryPressure(sk: Sock): void {
  const pressure = sk.proto.pressure
  if (pressure === null || pressure.jiffies === 0) return
  const ticks = (sk.env.jiffies - pressure.jiffies) >>> 0
  pressure.jiffies = 0
  if (sk.proto.counterChrono >= 0) sk.net.mib[sk.proto.counterChrono] += Math.round((ticks * sk.env.jiffyNs) / 1e6)
}
