/** Names that no kernel has, or none has any more. Asking for one is an error that says what does its work. */
import { bug } from '@netmem/base'

/**
 * Absent: `splice_file_to_socket`, which no kernel has: a file reaches a socket through a pipe.
 *
 * @throws KernelBug naming its replacement.
 */
export function spliceFileToSocket(): never {
  return bug('splice_file_to_socket does not exist: sendfile reads into the task’s pipe, splice_to_socket empties it')
}

/**
 * Absent: `sock_splice_actor`, gone with `sendpage`.
 *
 * @throws KernelBug naming its replacement.
 */
export function sockSpliceActor(): never {
  return bug('sock_splice_actor does not exist: splice_to_socket sends with MSG_SPLICE_PAGES')
}

/**
 * Absent: `tpacket_rcv_ring`, which no kernel has.
 *
 * @throws KernelBug naming its replacement.
 */
export function tpacketRcvRing(): never {
  return bug('tpacket_rcv_ring does not exist: tpacket_rcv finds the frame and fills it')
}

/**
 * Absent: `xsk_rcv_zc`, which no kernel has by that name.
 *
 * @throws KernelBug naming its replacement.
 */
export function xskRcvZc(): never {
  return bug('xsk_rcv_zc does not exist: xsk_rcv sees from the memory type that the frame is in the area already')
}

/**
 * Absent: `xdp_umem_peek_addr`, gone since buffer pools took over the fill ring in 5.8.
 *
 * @throws KernelBug naming its replacement.
 */
export function xdpUmemPeekAddr(): never {
  return bug('xdp_umem_peek_addr does not exist: xsk_buff_alloc takes addresses from the fill ring')
}
