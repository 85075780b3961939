/** /proc/net/unix, packet and ptype: sockets that stay on the machine, and taps on its devices. */
import { unixSk } from '@netmem/inet'
import {
  AF_PACKET,
  type Sock,
  SS_CONNECTED,
  SS_CONNECTING,
  SS_DISCONNECTING,
  SS_UNCONNECTED,
  TCP_ESTABLISHED,
  TCP_LISTEN,
} from '@netmem/sockmem'
import { ETH_P_ALL, type PacketType, ptypeInNs } from '@netmem/virtual-nic'
import { PacketHook, PacketSock } from '@netmem/zerocopy'
import type { Kernel } from '../kernel.js'
import type { Net } from '../net.js'
import { decimal, pointer, socketsOf, sockINo } from './socket-columns.js'

const SO_ACCEPTCON = 1 << 16
const hex8 = (value: number): string => (value >>> 0).toString(16).toUpperCase().padStart(8, '0')

function unixState(sk: Sock): number {
  const connected = sk.state === TCP_ESTABLISHED
  if (sk.socket !== 0) return connected ? SS_CONNECTED : SS_UNCONNECTED
  return connected ? SS_CONNECTING : SS_DISCONNECTING
}

/** Models `unix_seq_show` (net/unix/af_unix.c). @returns the text of /proc/net/unix. */
export function unixSeqShow(kernel: Kernel, net: Net): string {
  const lines = [...socketsOf(kernel, net, ['UNIX', 'UNIX-STREAM'])].map((sk) => {
    const { path } = unixSk(sk)
    const flags = sk.state === TCP_LISTEN ? SO_ACCEPTCON : 0
    const name = path === '' ? '' : ` ${path.replaceAll('\0', '@')}`
    return (
      `${pointer(sk.addr)}: ${hex8(sk.refcnt)} 00000000 ${hex8(flags)} ${sk.type.toString(16).padStart(4, '0')} ` +
      `${unixState(sk).toString(16).padStart(2, '0')} ${decimal(sockINo(sk), 5)}${name}`
    )
  })
  return `${['Num       RefCount Protocol Flags    Type St Inode Path', ...lines].join('\n')}\n`
}

/** Models `packet_seq_show` (net/packet/af_packet.c). @returns the text of /proc/net/packet. */
export function packetSeqShow(kernel: Kernel, net: Net): string {
  const lines: string[] = []
  for (const sk of kernel.socks.socks) {
    if (sk == null || sk.family !== AF_PACKET || sk.net !== net.ns) continue
    if (!(sk.priv instanceof PacketSock)) continue
    const po = sk.priv
    const proto = po.num.toString(16).padStart(4, '0')
    lines.push(
      `${pointer(sk.addr)} ${String(sk.refcnt).padEnd(6)} ${String(sk.type).padEnd(4)} ${proto}   ` +
        `${String(po.ifindex).padEnd(5)} ${po.running ? 1 : 0} ` +
        `${String(sk.rmemAlloc).padEnd(6)} ${String(0).padEnd(6)} ${String(sockINo(sk)).padEnd(6)}`,
    )
  }
  return `${[`${'sk'.padEnd(17)}RefCnt Type Proto  Iface R Rmem   User   Inode`, ...lines].join('\n')}\n`
}

/** The function that takes a tap's packets: a packet socket's depends on whether it has a ring, a group's on nothing. */
function handlerName(pt: PacketType): string {
  if (pt.name !== undefined) return pt.name
  if (pt instanceof PacketHook) {
    if (pt.fanout !== null) return 'packet_rcv_fanout'
    return pt.po !== null && pt.po.rxRing.vec !== null ? 'tpacket_rcv' : 'packet_rcv'
  }
  return 'packet_rcv'
}

/** Models `ptype_seq_show` (net/core/net-procfs.c). @returns the text of /proc/net/ptype. */
export function ptypeSeqShow(kernel: Kernel, net: Net): string {
  const { devs } = kernel
  const ofDevices = [...net.devices.values()].flatMap((dev) => [...dev.ptypeAll, ...dev.ptypeSpecific])
  const list: PacketType[] = [...ofDevices, ...devs.ptypeAll, ...devs.ptypeBase.flat()]
  const lines = list
    .filter((pt) => ptypeInNs(pt, net.id))
    .map((pt) => {
      const type = pt.type === ETH_P_ALL ? 'ALL ' : pt.type.toString(16).padStart(4, '0')
      return `${type} ${(pt.dev?.name ?? '').padEnd(8)} ${handlerName(pt)}`
    })
  return `${['Type Device      Function', ...lines].join('\n')}\n`
}
