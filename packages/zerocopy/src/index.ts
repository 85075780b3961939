// Names that are refused.
export {
  sockSpliceActor,
  spliceFileToSocket,
  tpacketRcvRing,
  xdpUmemPeekAddr,
  xskRcvZc,
} from './absent.js'
// Files and the page cache.
export { deviceOpen } from './file/char-devices.js'
export {
  File,
  type FileOps,
  FMODE_LSEEK,
  FMODE_PREAD,
  FMODE_PWRITE,
  FMODE_READ,
  FMODE_SEEKABLE,
  FMODE_WRITE,
  Loff,
  MAX_LFS_FILESIZE,
  MAX_RW_COUNT,
  O_ACCMODE,
  O_APPEND,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} from './file/file.js'
export { filemapFill } from './file/filemap.js'
export { Disk, filemapWriteback, Inode, invalidateMappingPages, truncateInode } from './file/inode.js'
export { diskInodeCreate, EXT4_MAX_BYTES, inodeOf, inodeOpen, shmemInodeCreate } from './file/regular.js'
export { type UserStruct, Vfs, type VfsParams, vfsInit } from './file/vfs.js'
export { type ZerocopyHazard, ZerocopyHazards } from './msg-zerocopy/hazard.js'
export { skbZerocopyIterDgram, skbZerocopyIterStream } from './msg-zerocopy/iter.js'
export {
  MsgZerocopy,
  msgZerocopyCopied,
  msgZerocopyRealloc,
  netZcopyPutAbort,
  SO_EE_CODE_ZEROCOPY_COPIED,
} from './msg-zerocopy/ubuf.js'
// Packet sockets.
export { TpacketBlockReader } from './packet/block-reader.js'
export {
  PACKET_ADD_MEMBERSHIP,
  PACKET_AUXDATA,
  PACKET_COPY_THRESH,
  PACKET_DROP_MEMBERSHIP,
  PACKET_FANOUT,
  PACKET_FANOUT_CBPF,
  PACKET_FANOUT_CPU,
  PACKET_FANOUT_DATA,
  PACKET_FANOUT_FLAG_ROLLOVER,
  PACKET_FANOUT_FLAG_UNIQUEID,
  PACKET_FANOUT_HASH,
  PACKET_FANOUT_LB,
  PACKET_FANOUT_QM,
  PACKET_FANOUT_RND,
  PACKET_FANOUT_ROLLOVER,
  PACKET_IGNORE_OUTGOING,
  PACKET_LOSS,
  PACKET_MR_PROMISC,
  PACKET_QDISC_BYPASS,
  PACKET_RESERVE,
  PACKET_RX_RING,
  PACKET_STATISTICS,
  PACKET_TX_HAS_OFF,
  PACKET_TX_RING,
  PACKET_VERSION,
  PACKET_VNET_HDR,
  PACKET_VNET_HDR_SZ,
  SOL_PACKET,
  TP_STATUS_SEND_REQUEST,
  TPACKET_V1,
  TPACKET_V2,
  TPACKET_V3,
} from './packet/constants.js'
export { type PacketInitParams, packetInit } from './packet/packet-ops.js'
export { PacketEnv, PacketHook, PacketSock, pktSk } from './packet/packet-sock.js'
// Pipes.
export { Pipe, pipeIsEmpty, pipeIsFull, pipeOccupancy } from './pipe/pipe.js'
export { pipeBufTrySteal } from './pipe/pipe-buffer.js'
export { pipeBytes } from './pipe/pipe-info.js'
export { createPipeFiles, FIONREAD, getPipeInfo, O_DIRECT, type PipeEnds } from './pipe/pipe-io.js'
export { F_GETPIPE_SZ, F_SETPIPE_SZ, roundPipeSize } from './pipe/pipe-size.js'
// splice, tee, vmsplice, sendfile.
export { sysSpliceFiles, sysTeeFiles } from './splice/do-splice.js'
export { doSendfile, exitSplicePipe } from './splice/sendfile.js'
export {
  SPLICE_F_ALL,
  SPLICE_F_GIFT,
  SPLICE_F_MORE,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
} from './splice/splice-flags.js'
export { socketFops, socketSendpageFops } from './splice/splice-socket.js'
export { sysVmspliceFile } from './splice/vmsplice.js'
// kTLS.
export { type NodeCrypto, tlsCryptoFromNode } from './tls/node-crypto.js'
export { tlsChargedBytes } from './tls/tls-audit.js'
export {
  getCipherDesc,
  parseCryptoInfo,
  TLS_1_2_VERSION,
  TLS_1_3_VERSION,
  TLS_CIPHER_AES_CCM_128,
  TLS_CIPHER_AES_GCM_128,
  TLS_CIPHER_AES_GCM_256,
  TLS_CIPHER_ARIA_GCM_128,
  TLS_CIPHER_ARIA_GCM_256,
  TLS_CIPHER_CHACHA20_POLY1305,
  TLS_CIPHER_SM4_CCM,
  TLS_CIPHER_SM4_GCM,
  type TlsCipherDesc,
  type TlsCryptoInfo,
} from './tls/tls-ciphers.js'
export { TlsContext } from './tls/tls-context.js'
export { NO_TLS_CRYPTO, TLS_TAG_SIZE, type TlsAead, type TlsCryptoProvider } from './tls/tls-crypto.js'
export { TlsEnv, type TlsParams, type TlsReadActor, type TlsTransport } from './tls/tls-env.js'
export {
  TLS_HEADER_SIZE,
  TLS_MAX_PAYLOAD_SIZE,
  TLS_RECORD_TYPE_ALERT,
  TLS_RECORD_TYPE_DATA,
  TLS_RECORD_TYPE_HANDSHAKE,
} from './tls/tls-framing.js'
export { type TlsUlpOps, tlsInit } from './tls/tls-main.js'
export { TlsNicEngine, tlsNicAttach } from './tls/tls-nic.js'
export { SOL_TLS, TLS_GET_RECORD_TYPE, TLS_SET_RECORD_TYPE } from './tls/tls-record-type.js'
export { TLS_RX, TLS_RX_EXPECT_NO_PAD, TLS_TX, TLS_TX_ZEROCOPY_RO } from './tls/tls-sockopt.js'

// AF_XDP.
export * from './xdp/uapi.js'
export type { XdpUmem } from './xdp/xdp-umem.js'
export {
  XskRing,
  type XskRingKind,
  xskConsNbAvail,
  xskProdNbFree,
  xskRingConsCancel,
  xskRingConsCompAddr,
  xskRingConsCompAddrHigh,
  xskRingConsPeek,
  xskRingConsRelease,
  xskRingConsRxAddr,
  xskRingConsRxAddrHigh,
  xskRingConsRxLen,
  xskRingConsRxOptions,
  xskRingProdFillAddr,
  xskRingProdNeedsWakeup,
  xskRingProdReserve,
  xskRingProdSubmit,
  xskRingProdTxDesc,
  xskUmemAddOffsetToAddr,
} from './xdp/xsk.js'
export { SockaddrXdp } from './xdp/xsk-bind.js'
export type { XskBuffPool } from './xdp/xsk-buff-pool.js'
export type { XskEnv } from './xdp/xsk-env.js'
export { xskInit } from './xdp/xsk-ops.js'
export { type XdpSock, xdpSk } from './xdp/xsk-sock.js'
export { XSK_BOUND, XSK_READY, XSK_UNBOUND } from './xdp/xsk-state.js'
export { XskMap } from './xdp/xskmap.js'
