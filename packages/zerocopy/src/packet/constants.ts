/**
 * Numbers of packet sockets that programs and the kernel agree on (include/uapi/linux/if_packet.h): options,
 * status bits, header layouts. They are ABI and the same on every kernel.
 */

export const SOL_PACKET = 263

export const PACKET_ADD_MEMBERSHIP = 1
export const PACKET_DROP_MEMBERSHIP = 2
export const PACKET_RX_RING = 5
export const PACKET_STATISTICS = 6
export const PACKET_COPY_THRESH = 7
export const PACKET_AUXDATA = 8
export const PACKET_ORIGDEV = 9
export const PACKET_VERSION = 10
export const PACKET_HDRLEN = 11
export const PACKET_RESERVE = 12
export const PACKET_TX_RING = 13
export const PACKET_LOSS = 14
export const PACKET_VNET_HDR = 15
export const PACKET_TX_TIMESTAMP = 16
export const PACKET_TIMESTAMP = 17
export const PACKET_FANOUT = 18
export const PACKET_TX_HAS_OFF = 19
export const PACKET_QDISC_BYPASS = 20
export const PACKET_ROLLOVER_STATS = 21
export const PACKET_FANOUT_DATA = 22
export const PACKET_IGNORE_OUTGOING = 23
export const PACKET_VNET_HDR_SZ = 24

export const PACKET_FANOUT_HASH = 0
export const PACKET_FANOUT_LB = 1
export const PACKET_FANOUT_CPU = 2
export const PACKET_FANOUT_ROLLOVER = 3
export const PACKET_FANOUT_RND = 4
export const PACKET_FANOUT_QM = 5
export const PACKET_FANOUT_CBPF = 6
export const PACKET_FANOUT_EBPF = 7
export const PACKET_FANOUT_FLAG_ROLLOVER = 0x1000
export const PACKET_FANOUT_FLAG_UNIQUEID = 0x2000
export const PACKET_FANOUT_FLAG_IGNORE_OUTGOING = 0x4000
export const PACKET_FANOUT_FLAG_DEFRAG = 0x8000

export const PACKET_MR_MULTICAST = 0
export const PACKET_MR_PROMISC = 1
export const PACKET_MR_ALLMULTI = 2
export const PACKET_MR_UNICAST = 3

export const TPACKET_V1 = 0
export const TPACKET_V2 = 1
export const TPACKET_V3 = 2

// Status words of receive frames and blocks.
export const TP_STATUS_KERNEL = 0
export const TP_STATUS_USER = 1 << 0
export const TP_STATUS_COPY = 1 << 1
export const TP_STATUS_LOSING = 1 << 2
export const TP_STATUS_CSUMNOTREADY = 1 << 3
export const TP_STATUS_VLAN_VALID = 1 << 4
export const TP_STATUS_BLK_TMO = 1 << 5
export const TP_STATUS_VLAN_TPID_VALID = 1 << 6
export const TP_STATUS_CSUM_VALID = 1 << 7
export const TP_STATUS_GSO_TCP = 1 << 8
export const TP_STATUS_TS_SOFTWARE = 1 << 29
export const TP_STATUS_TS_RAW_HARDWARE = 1 << 31

// Status words of transmit frames.
export const TP_STATUS_AVAILABLE = 0
export const TP_STATUS_SEND_REQUEST = 1 << 0
export const TP_STATUS_SENDING = 1 << 1
export const TP_STATUS_WRONG_FORMAT = 1 << 2

/** Models `TP_FT_REQ_FILL_RXHASH`: a V3 ring that wants each packet's flow hash. */
export const TP_FT_REQ_FILL_RXHASH = 1
/** Models `SOF_TIMESTAMPING_SOFTWARE`. */
export const SOF_TIMESTAMPING_SOFTWARE = 1 << 4

export const TPACKET_ALIGNMENT = 16
/** Models `TPACKET_ALIGN`. */
export const tpacketAlign = (bytes: number): number => (bytes + 15) & ~15

/** `sizeof(struct sockaddr_ll)`. */
export const SOCKADDR_LL_BYTES = 20
/** `sizeof` of the three headers, by version; each is a multiple of the alignment. */
export const TPACKET_HDR_BYTES: readonly number[] = [32, 32, 48]
/** Models `TPACKET_HDRLEN`, `TPACKET2_HDRLEN` and `TPACKET3_HDRLEN`: with the address behind the header. */
export const TPACKET_HDRLEN: readonly number[] = [52, 52, 68]

// Offsets of the header members, in bytes.
export const H1 = { status: 0, len: 8, snaplen: 12, mac: 16, net: 18, sec: 20, usec: 24 } as const
export const H2 = { status: 0, len: 4, snaplen: 8, mac: 12, net: 14, sec: 16, nsec: 20, tci: 24, tpid: 26 } as const
export const H3 = {
  nextOffset: 0,
  sec: 4,
  nsec: 8,
  snaplen: 12,
  len: 16,
  status: 20,
  mac: 24,
  net: 26,
  rxhash: 28,
  tci: 32,
  tpid: 36,
  padding: 40,
} as const
/** Members of `struct tpacket_block_desc` with its `tpacket_hdr_v1`, in bytes. */
export const BD = {
  version: 0,
  offsetToPriv: 4,
  status: 8,
  numPkts: 12,
  offsetToFirstPkt: 16,
  blkLen: 20,
  seqNum: 24,
  tsFirst: 32,
  tsLast: 40,
} as const
/** Models `BLK_HDR_LEN`. */
export const BLK_HDR_LEN = 48
/** Models `BLK_PLUS_PRIV`. @param privBytes of the user's own area. */
export const blkPlusPriv = (privBytes: number): number => BLK_HDR_LEN + Math.ceil(privBytes / 8) * 8

/** Models `DEFAULT_PRB_RETIRE_TOV`, milliseconds. */
export const DEFAULT_PRB_RETIRE_TOV = 8
/** Models `PACKET_FANOUT_MAX`. */
export const PACKET_FANOUT_MAX = 1 << 16
export const VLAN_HLEN = 4
