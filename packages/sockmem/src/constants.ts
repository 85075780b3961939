/**
 * The numbers of the socket interface that user programs and the kernel agree on: address families,
 * socket types, states, option and flag numbers. They are ABI and equal on every kernel of this machine
 * type, which is why they are here and not in the profile.
 */

// Address families (include/linux/socket.h).
export const AF_UNSPEC = 0
export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const AF_PACKET = 17
export const AF_XDP = 44

// Socket types (include/linux/net.h).
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_RAW = 3
export const SOCK_SEQPACKET = 5
export const SOCK_PACKET = 10

// Protocols (include/uapi/linux/in.h).
export const IPPROTO_IP = 0
export const IPPROTO_ICMP = 1
export const IPPROTO_TCP = 6
export const IPPROTO_UDP = 17
export const IPPROTO_IPV6 = 41
export const IPPROTO_FRAGMENT = 44
export const IPPROTO_ICMPV6 = 58
export const IPPROTO_UDPLITE = 136
export const IPPROTO_RAW = 255

// Connection states (include/net/tcp_states.h); sockets without connections use CLOSE and ESTABLISHED.
export const TCP_ESTABLISHED = 1
export const TCP_SYN_SENT = 2
export const TCP_SYN_RECV = 3
export const TCP_FIN_WAIT1 = 4
export const TCP_FIN_WAIT2 = 5
export const TCP_TIME_WAIT = 6
export const TCP_CLOSE = 7
export const TCP_CLOSE_WAIT = 8
export const TCP_LAST_ACK = 9
export const TCP_LISTEN = 10
export const TCP_CLOSING = 11
export const TCP_NEW_SYN_RECV = 12

/** Models `SS_UNCONNECTED` and its neighbours: the state of the user's end (`struct socket`). */
export const SS_FREE = 0
export const SS_UNCONNECTED = 1
export const SS_CONNECTING = 2
export const SS_CONNECTED = 3
export const SS_DISCONNECTING = 4

// sk_shutdown bits.
export const RCV_SHUTDOWN = 1
export const SEND_SHUTDOWN = 2
export const SHUTDOWN_MASK = 3

// sk_userlocks bits: what the user fixed and the kernel therefore no longer tunes.
export const SOCK_SNDBUF_LOCK = 1
export const SOCK_RCVBUF_LOCK = 2
export const SOCK_BUF_LOCK_MASK = 3
export const SOCK_BINDADDR_LOCK = 4
export const SOCK_BINDPORT_LOCK = 8

/** Models `SK_MEM_SEND` and `SK_MEM_RECV`: the direction a charge is for. */
export const SK_MEM_SEND = 0
export const SK_MEM_RECV = 1

// Bits of `Sock.flags` (enum sock_flags).
export const SOCKF_DEAD = 1 << 0
export const SOCKF_DONE = 1 << 1
export const SOCKF_KEEPOPEN = 1 << 2
export const SOCKF_LINGER = 1 << 3
export const SOCKF_BROADCAST = 1 << 4
export const SOCKF_USE_WRITE_QUEUE = 1 << 5
export const SOCKF_DBG = 1 << 6
export const SOCKF_LOCALROUTE = 1 << 7
export const SOCKF_MEMALLOC = 1 << 8
export const SOCKF_RXQ_OVFL = 1 << 9
export const SOCKF_ZEROCOPY = 1 << 10
export const SOCKF_NOFCS = 1 << 11
export const SOCKF_FILTER_LOCKED = 1 << 12
export const SOCKF_SELECT_ERR_QUEUE = 1 << 13
export const SOCKF_RCU_FREE = 1 << 14
export const SOCKF_URGINLINE = 1 << 15
export const SOCKF_TIMESTAMP = 1 << 16
export const SOCKF_TSTAMP_NEW = 1 << 17
export const SOCKF_TXTIME = 1 << 18
export const SOCKF_NO_CHECK = 1 << 19
export const SOCKF_REUSEADDR = 1 << 20
export const SOCKF_REUSEPORT = 1 << 21
export const SOCKF_PASSCRED = 1 << 22
/** A writer was refused for want of space (SOCK_NOSPACE of `struct socket`). */
export const SOCKF_NOSPACE = 1 << 23
export const SOCKF_PREFER_BUSY_POLL = 1 << 24
export const SOCKF_ACCEPTCONN = 1 << 25
/** A socket of the kernel itself (`sk_net_refcnt` is 0): nobody counts it. */
export const SOCKF_KERN = 1 << 26
export const SOCKF_RCVMARK = 1 << 27
export const SOCKF_WIFI_STATUS = 1 << 28

// send and recv flags (include/linux/socket.h).
export const MSG_OOB = 0x1
export const MSG_PEEK = 0x2
export const MSG_DONTROUTE = 0x4
export const MSG_CTRUNC = 0x8
export const MSG_PROBE = 0x10
export const MSG_TRUNC = 0x20
export const MSG_DONTWAIT = 0x40
export const MSG_EOR = 0x80
export const MSG_WAITALL = 0x100
export const MSG_CONFIRM = 0x800
export const MSG_ERRQUEUE = 0x2000
export const MSG_NOSIGNAL = 0x4000
export const MSG_MORE = 0x8000
export const MSG_SENDPAGE_NOTLAST = 0x20000
export const MSG_NO_SHARED_FRAGS = 0x80000
export const MSG_SENDPAGE_DECRYPTED = 0x100000
/** Models `MSG_ZEROCOPY`: the packet refers to the caller's pages until its notification comes. */
export const MSG_ZEROCOPY = 0x4000000
export const MSG_SPLICE_PAGES = 0x8000000
export const MSG_FASTOPEN = 0x20000000
export const MSG_CMSG_CLOEXEC = 0x40000000

// poll events (include/uapi/asm-generic/poll.h).
export const EPOLLIN = 0x1
export const EPOLLPRI = 0x2
export const EPOLLOUT = 0x4
export const EPOLLERR = 0x8
export const EPOLLHUP = 0x10
export const EPOLLRDNORM = 0x40
export const EPOLLRDBAND = 0x80
export const EPOLLWRNORM = 0x100
export const EPOLLWRBAND = 0x200
export const EPOLLRDHUP = 0x2000

// ioctl numbers of sockets.
export const SIOCINQ = 0x541b
export const SIOCOUTQ = 0x5411
export const SIOCOUTQNSD = 0x894b
export const SIOCATMARK = 0x8905

/** Capability bits of `Task.caps` that sockets ask for. */
export const CAP_NET_ADMIN = 1 << 0
export const CAP_NET_RAW = 1 << 1
export const CAP_SYS_RESOURCE = 1 << 2
export const CAP_NET_BIND_SERVICE = 1 << 3
export const CAP_SYS_ADMIN = 1 << 4
export const CAP_IPC_LOCK = 1 << 5
