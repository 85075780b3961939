import { expect, it } from 'vitest'
import { sockSpliceActor, spliceFileToSocket, tpacketRcvRing, xdpUmemPeekAddr, xskRcvZc } from './absent.js'

it.each([
  [spliceFileToSocket, /splice_file_to_socket does not exist: .*splice_to_socket/],
  [sockSpliceActor, /sock_splice_actor does not exist: .*MSG_SPLICE_PAGES/],
  [tpacketRcvRing, /tpacket_rcv_ring does not exist: tpacket_rcv /],
  [xskRcvZc, /xsk_rcv_zc does not exist: xsk_rcv /],
  [xdpUmemPeekAddr, /xdp_umem_peek_addr does not exist: xsk_buff_alloc /],
])('refuses a name that no kernel has, and says what does its work', (refused, words) => {
  expect(refused).toThrow(words)
})
