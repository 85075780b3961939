/**
 * The files of /proc and /sys that the model can show, by their paths. Nothing is stored: every text is made from
 * the packages' own state when it is read.
 */
import { devStatistics, type NetDevice } from '@netmem/virtual-nic'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { cgroupFiles, cgroupPath } from './cgroup.js'
import { raw6SeqShow, rawSeqShow, udp4SeqShow, udp6SeqShow } from './datagram-sockets.js'
import { devSeqShow, softnetStat } from './devices.js'
import { packetSeqShow, ptypeSeqShow, unixSeqShow } from './local-sockets.js'
import { buddyinfoShow, meminfoProcShow, slabinfoShow } from './memory.js'
import { protocolsSeqShow } from './protocols.js'
import { netstatSeqShow, snmp6SeqShow, snmpSeqShow, tlsStatSeqShow } from './snmp.js'
import { sockstat6SeqShow, sockstatSeqShow } from './sockstat.js'
import { cgroupsShow, fileNrShow, loadavgShow, psiShow, statShow, uptimeShow, versionShow } from './system.js'
import { tcp4SeqShow, tcp6SeqShow } from './tcp-sockets.js'
import { pagetypeinfoShow, vmstatShow, zoneinfoShow } from './zones.js'

type Show = (kernel: Kernel, net: Net) => string

const FILES: Readonly<Record<string, Show>> = {
  '/proc/net/sockstat': sockstatSeqShow,
  '/proc/net/sockstat6': sockstat6SeqShow,
  '/proc/net/protocols': protocolsSeqShow,
  '/proc/net/snmp': (_kernel, net) => snmpSeqShow(net),
  '/proc/net/netstat': (_kernel, net) => netstatSeqShow(net),
  '/proc/net/snmp6': (_kernel, net) => snmp6SeqShow(net),
  '/proc/net/tls_stat': (kernel, net) => tlsStatSeqShow(net, kernel.profile.features.tlsRekey),
  '/proc/net/dev': (_kernel, net) => devSeqShow(net),
  '/proc/net/softnet_stat': softnetStat,
  '/proc/net/tcp': tcp4SeqShow,
  '/proc/net/tcp6': tcp6SeqShow,
  '/proc/net/udp': (kernel, net) => udp4SeqShow(kernel, net, 'UDP'),
  '/proc/net/udp6': (kernel, net) => udp6SeqShow(kernel, net, 'UDPv6'),
  '/proc/net/udplite': (kernel, net) => udp4SeqShow(kernel, net, 'UDP-Lite'),
  '/proc/net/udplite6': (kernel, net) => udp6SeqShow(kernel, net, 'UDPLITEv6'),
  '/proc/net/raw': rawSeqShow,
  '/proc/net/raw6': raw6SeqShow,
  '/proc/net/unix': unixSeqShow,
  '/proc/net/packet': packetSeqShow,
  '/proc/net/ptype': ptypeSeqShow,
  '/proc/slabinfo': slabinfoShow,
  '/proc/buddyinfo': buddyinfoShow,
  '/proc/pagetypeinfo': pagetypeinfoShow,
  '/proc/zoneinfo': zoneinfoShow,
  '/proc/meminfo': meminfoProcShow,
  '/proc/vmstat': vmstatShow,
  '/proc/stat': statShow,
  '/proc/loadavg': loadavgShow,
  '/proc/uptime': uptimeShow,
  '/proc/version': versionShow,
  '/proc/cgroups': cgroupsShow,
  '/proc/pressure/cpu': psiShow,
  '/proc/pressure/io': psiShow,
  '/proc/pressure/memory': psiShow,
  '/proc/sys/fs/file-nr': fileNrShow,
}

const SYS_NET = '/sys/class/net/'
const CGROUP = '/sys/fs/cgroup/'

/** @returns the paths of /proc that `procRead` knows; those of /proc/sys, /sys/class/net and /sys/fs/cgroup come on top. */
export const procFiles = (): string[] => Object.keys(FILES)

/** @returns the path of a sysctl below /proc/sys. Dots and slashes change places, as `sysctl` has it. */
export const sysctlPath = (name: string): string =>
  `/proc/sys/${name.replace(/[./]/g, (char) => (char === '.' ? '/' : '.'))}`

/** @returns the sysctl of a path below /proc/sys. */
export const sysctlName = (path: string): string =>
  path.slice('/proc/sys/'.length).replace(/[./]/g, (char) => (char === '/' ? '.' : '/'))

/** Models the attributes of `net_class` that concern memory. @returns texts by path below the device's directory. */
function deviceFiles(dev: NetDevice): Record<string, string> {
  const files: Record<string, string> = {
    ifindex: `${dev.id}\n`,
    mtu: `${dev.mtu}\n`,
    flags: `0x${dev.flags.toString(16)}\n`,
    type: `${dev.type}\n`,
    tx_queue_len: `${dev.txQueueLen}\n`,
    gro_flush_timeout: `${dev.groFlushTimeoutNs}\n`,
    napi_defer_hard_irqs: `${dev.napiDeferHardIrqs}\n`,
  }
  for (const [name, value] of Object.entries(devStatistics(dev))) files[`statistics/${name}`] = `${value}\n`
  return files
}

/** The hierarchy's mount point: v1 has one per controller. */
const cgroupRoot = (kernel: Kernel): string => (kernel.socks.memcgs.onDfl ? CGROUP : `${CGROUP}memory/`)

/** @returns all paths below /sys that `procRead` knows in that namespace. */
export function sysFiles(kernel: Kernel, net: Net): string[] {
  const devices = [...net.devices].flatMap(([name, dev]) =>
    Object.keys(deviceFiles(dev)).map((file) => `${SYS_NET}${name}/${file}`),
  )
  const groups = kernel.socks.memcgs.list.flatMap((memcg) =>
    Object.keys(cgroupFiles(kernel, memcg)).map((file) => `${cgroupRoot(kernel)}${cgroupPath(memcg)}/${file}`),
  )
  return [...devices, ...groups]
}

/**
 * Reads a file as a process in that namespace would.
 *
 * @param path one of `procFiles()`, of `sysFiles()`, or a file of /proc/sys.
 * @returns the text, or null when there is no such file.
 */
export function procRead(kernel: Kernel, net: Net, path: string): string | null {
  const show = FILES[path]
  if (show !== undefined) return show(kernel, net)
  if (path.startsWith('/proc/sys/')) {
    const value = kernel.sysctlRead(net, sysctlName(path))
    return value === null ? null : `${value}\n`
  }
  if (path.startsWith(SYS_NET)) {
    const [name = '', ...rest] = path.slice(SYS_NET.length).split('/')
    const dev = net.devices.get(name)
    return dev === undefined ? null : (deviceFiles(dev)[rest.join('/')] ?? null)
  }
  const root = cgroupRoot(kernel)
  if (!path.startsWith(root)) return null
  for (const memcg of kernel.socks.memcgs.list) {
    const dir = `${root}${cgroupPath(memcg)}/`
    const text = path.startsWith(dir) ? cgroupFiles(kernel, memcg)[path.slice(dir.length)] : undefined
    if (text !== undefined) return text
  }
  return null
}
