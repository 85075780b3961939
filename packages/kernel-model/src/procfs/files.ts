/** The files of /proc and /sys that the model can show, by their paths. */
import { devStatistics } from '@netmem/virtual-nic'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { devSeqShow, softnetStat } from './devices.js'
import { buddyinfoShow, meminfoProcShow, slabinfoShow } from './memory.js'
import { protocolsSeqShow } from './protocols.js'
import { netstatSeqShow, snmp6SeqShow, snmpSeqShow } from './snmp.js'
import { sockstat6SeqShow, sockstatSeqShow } from './sockstat.js'

const FILES: Readonly<Record<string, (kernel: Kernel, net: Net) => string>> = {
  '/proc/net/sockstat': sockstatSeqShow,
  '/proc/net/sockstat6': sockstat6SeqShow,
  '/proc/net/protocols': protocolsSeqShow,
  '/proc/net/snmp': (_kernel, net) => snmpSeqShow(net),
  '/proc/net/netstat': (_kernel, net) => netstatSeqShow(net),
  '/proc/net/snmp6': (_kernel, net) => snmp6SeqShow(net),
  '/proc/net/dev': (_kernel, net) => devSeqShow(net),
  '/proc/net/softnet_stat': softnetStat,
  '/proc/slabinfo': slabinfoShow,
  '/proc/buddyinfo': buddyinfoShow,
  '/proc/meminfo': meminfoProcShow,
}

/** @returns the paths of /proc that `procRead` knows; those of /proc/sys and /sys/class/net come on top. */
export const procFiles = (): string[] => Object.keys(FILES)

/**
 * Reads a file as a process in that namespace would.
 *
 * @param path one of `procFiles()`, a file of /proc/sys, or /sys/class/net/<dev>/statistics/<counter>.
 * @returns the text, or null when there is no such file.
 */
export function procRead(kernel: Kernel, net: Net, path: string): string | null {
  const show = FILES[path]
  if (show !== undefined) return show(kernel, net)
  if (path.startsWith('/proc/sys/')) {
    const value = kernel.sysctlRead(net, path.slice('/proc/sys/'.length).replaceAll('/', '.'))
    return value === null ? null : `${value}\n`
  }
  const match = /^\/sys\/class\/net\/([^/]+)\/statistics\/([^/]+)$/.exec(path)
  const dev = match === null ? undefined : net.devices.get(match[1]!)
  if (dev === undefined) return null
  const value = (devStatistics(dev) as Readonly<Record<string, number>>)[match![2]!]
  return value === undefined ? null : `${value}\n`
}
