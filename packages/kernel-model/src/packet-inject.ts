/** Frames sent out of a device through a packet socket that receives nothing: what tests and traces put on a wire. */
import { userWrite } from '@netmem/memory'
import { AF_PACKET, SOCK_RAW, SockAddr } from '@netmem/sockmem'
import type { NetDevice } from '@netmem/virtual-nic'
import type { Process } from './process.js'
import { SOCK_NONBLOCK, sysBind, sysSendmsg, sysSocket } from './syscalls.js'

const BUFFER = 'inject'

/**
 * Sends one frame through a socket of the process's own for that device: SOCK_RAW, protocol 0, bound to it.
 *
 * @returns the frame's length, or a negative errno of `socket`, `bind` or `send`.
 */
export function packetInject(process: Process, dev: NetDevice, frame: Uint8Array): number {
  const known = process.injectors.get(dev.id) ?? openInjector(process, dev)
  if (known < 0) return known
  const buffer = process.buffer(BUFFER, frame.length)
  userWrite(process.kernel.mem, buffer, 0, frame)
  return sysSendmsg(process, known, frame.length, { buffer })
}

function openInjector(process: Process, dev: NetDevice): number {
  const home = process.net
  process.setns(process.kernel.links.netOf(dev))
  const fd = sysSocket(process, AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0)
  process.setns(home)
  if (fd < 0) return fd
  const address = new SockAddr()
  address.family = AF_PACKET
  address.ifindex = dev.id
  const err = sysBind(process, fd, address)
  if (err < 0) return err
  process.injectors.set(dev.id, fd)
  return fd
}
