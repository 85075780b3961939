/** Attaching a packet socket to a device, or to all: binding, and what devices going up and down do to it. */
import { type Cpu, ERRNO } from '@netmem/base'
import { SOCKF_DEAD, type Sock, skErrorReport, sockHold, sockPut } from '@netmem/sockmem'
import { devAddPack, devRemovePack, IFF_UP, type NetDevice, type NetdevEvent } from '@netmem/virtual-nic'
import { fanoutLink, fanoutUnlink } from './fanout.js'
import { packetDevMclistDelete } from './mclist.js'
import type { PacketEnv, PacketSock } from './packet-sock.js'

/** Models `register_prot_hook` (net/packet/af_packet.c). The tap holds the socket. */
export function registerProtHook(po: PacketSock): void {
  if (po.running) return
  if (po.fanout !== null) fanoutLink(po.fanout, po)
  else devAddPack(po.env.devs, po.hook)
  sockHold(po.sk)
  po.running = true
}

/** Models `unregister_prot_hook`. */
export function unregisterProtHook(cpu: Cpu, po: PacketSock): void {
  if (!po.running) return
  po.running = false
  if (po.fanout !== null) fanoutUnlink(po.fanout, po)
  else devRemovePack(po.env.devs, po.hook)
  sockPut(cpu, po.sk)
}

function netdown(cpu: Cpu, sk: Sock): void {
  sk.err = ERRNO.ENETDOWN
  if ((sk.flags & SOCKF_DEAD) === 0) skErrorReport(cpu, sk)
}

/**
 * Models `packet_do_bind`. @param dev null for all devices. @param proto EtherType, 0 to receive nothing.
 *
 * @returns 0, or -EINVAL for a member of a fanout group.
 */
export function packetDoBind(cpu: Cpu, po: PacketSock, dev: NetDevice | null, proto: number): number {
  if (po.fanout !== null) return -ERRNO.EINVAL
  const { hook } = po
  if (hook.type === proto && hook.dev === dev) return 0
  unregisterProtHook(cpu, po)
  po.num = proto
  hook.type = proto
  hook.dev = dev
  po.ifindex = dev === null ? 0 : dev.id
  po.cachedDev = dev
  if (proto === 0) return 0
  if (dev === null || (dev.flags & IFF_UP) !== 0) registerProtHook(po)
  else netdown(cpu, po.sk)
  return 0
}

/** Models `packet_notifier`: sockets of a device that goes down are deaf until it is up again. */
export function packetNotifier(env: PacketEnv, cpu: Cpu, event: NetdevEvent, dev: NetDevice): void {
  const net = env.socks.nets[dev.ns]
  if (net === undefined) return
  for (const po of env.sklist(net)) {
    if (event === 'unregister' && po.mclist !== null) packetDevMclistDelete(cpu, po, dev)
    if (po.ifindex !== dev.id) continue
    if (event === 'up') {
      if (po.num !== 0) registerProtHook(po)
      continue
    }
    if (po.running) {
      unregisterProtHook(cpu, po)
      netdown(cpu, po.sk)
    }
    if (event === 'unregister') {
      po.cachedDev = null
      po.ifindex = -1
      po.hook.dev = null
    }
  }
}
