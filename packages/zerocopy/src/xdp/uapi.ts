/**
 * The numbers of AF_XDP that user programs and the kernel agree on (include/uapi/linux/if_xdp.h). They are ABI and the
 * same on every kernel that has them.
 */

/** Models `SOL_XDP`: the option level. */
export const SOL_XDP = 283

// Flags of `sockaddr_xdp`.
export const XDP_SHARED_UMEM = 1 << 0
/** Models `XDP_COPY`: bytes are copied between packets and the area; binding fails rather than do otherwise. */
export const XDP_COPY = 1 << 1
/** Models `XDP_ZEROCOPY`: the driver uses the area itself; binding fails where it cannot. */
export const XDP_ZEROCOPY = 1 << 2
export const XDP_USE_NEED_WAKEUP = 1 << 3
/** The socket copes with packets in several buffers. */
export const XDP_USE_SG = 1 << 4

// Flags of `xdp_umem_reg`.
/** Chunks may begin anywhere; descriptors carry an offset in their high 16 bits. */
export const XDP_UMEM_UNALIGNED_CHUNK_FLAG = 1 << 0
/** Sums that send metadata asks for are made in software. */
export const XDP_UMEM_TX_SW_CSUM = 1 << 1
/** `tx_metadata_len` counts. */
export const XDP_UMEM_TX_METADATA_LEN = 1 << 2

// Options of the level SOL_XDP.
export const XDP_MMAP_OFFSETS = 1
export const XDP_RX_RING = 2
export const XDP_TX_RING = 3
export const XDP_UMEM_REG = 4
export const XDP_UMEM_FILL_RING = 5
export const XDP_UMEM_COMPLETION_RING = 6
export const XDP_STATISTICS = 7
export const XDP_OPTIONS = 8
export const XDP_MAX_TX_SKB_BUDGET = 9
/** The answer of XDP_OPTIONS: the socket is in zero-copy mode. */
export const XDP_OPTIONS_ZEROCOPY = 1 << 0

// Offsets for mmap.
export const XDP_PGOFF_RX_RING = 0
export const XDP_PGOFF_TX_RING = 0x80000000
export const XDP_UMEM_PGOFF_FILL_RING = 0x100000000
export const XDP_UMEM_PGOFF_COMPLETION_RING = 0x180000000

/** In the flags word of a ring: the kernel sleeps until a system call wakes it. */
export const XDP_RING_NEED_WAKEUP = 1 << 0

// Options of a descriptor.
/** More of the packet follows in the next descriptor. */
export const XDP_PKT_CONTD = 1 << 0
/** Send metadata lies in front of the frame. */
export const XDP_TX_METADATA = 1 << 1

// Flags of send metadata.
export const XDP_TXMD_FLAGS_TIMESTAMP = 1 << 0
export const XDP_TXMD_FLAGS_CHECKSUM = 1 << 1
export const XDP_TXMD_FLAGS_LAUNCH_TIME = 1 << 2

/** Models `XSK_UNALIGNED_BUF_OFFSET_SHIFT` as far as a high word goes: an address has 48 bits, its offset 16. */
export const XSK_UNALIGNED_OFFSET_SHIFT_HIGH = 16
/** The part of a high word that belongs to the address. */
export const XSK_UNALIGNED_ADDR_MASK_HIGH = 0xffff

/** Which direction sleeps: bits of `cached_need_wakeup` (include/net/xdp_sock_drv.h). */
export const XDP_WAKEUP_RX = 1 << 0
export const XDP_WAKEUP_TX = 1 << 1

/** Models `XDP_UMEM_MIN_CHUNK_SIZE`: bytes. */
export const XDP_UMEM_MIN_CHUNK_SIZE = 2048
/** Models `XDP_UMEM_MIN_FRAME`: what must be left of a chunk for a frame, in bytes. */
export const XSK_MIN_FRAME_BYTES = 128
/** Models `TX_BATCH_SIZE`: descriptors that one system call sends, unless an option says otherwise. */
export const TX_BATCH_SIZE = 32
