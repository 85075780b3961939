/** Names of /proc/sys that hold words: which congestion control new connections get, and which there are. */
import { ERRNO, type KernelProfile } from '@netmem/base'
import type { Sysctls } from '@netmem/sockmem'

export const TCP_CONGESTION_CONTROL = 'net.ipv4.tcp_congestion_control'
const AVAILABLE = 'net.ipv4.tcp_available_congestion_control'
const ALLOWED = 'net.ipv4.tcp_allowed_congestion_control'
/** Models `TCP_CA_NAME_MAX`. */
const CA_NAME_MAX = 16

/** @returns those of the three names that the profile has. */
export const congestionControls = (profile: KernelProfile): string[] =>
  [TCP_CONGESTION_CONTROL, AVAILABLE, ALLOWED].filter((name) => profile.sysctl[name] !== undefined)

/**
 * Models `proc_tcp_congestion_control` (net/ipv4/sysctl_net_ipv4.c): the default of new sockets in this namespace.
 *
 * @param initial whether it is the initial namespace's: others may have unrestricted algorithms only.
 * @returns 0; -ENOENT for an algorithm that is not there, and for names that are no words; -EACCES for those that are
 * only read.
 */
export function writeWord(profile: KernelProfile, net: Sysctls, initial: boolean, name: string, text: string): number {
  if (name === AVAILABLE || name === ALLOWED) return -ERRNO.EACCES
  if (name !== TCP_CONGESTION_CONTROL) return -ERRNO.ENOENT
  if (text.length === 0) return 0
  const word = text.split('\n')[0]!.slice(0, CA_NAME_MAX - 1)
  const available = (profile.sysctl[AVAILABLE] ?? '').split(' ')
  if (!available.includes(word)) return -ERRNO.ENOENT
  if (!initial && !(profile.sysctl[ALLOWED] ?? '').split(' ').includes(word)) return -ERRNO.EPERM
  net.setText(name, word)
  return 0
}
