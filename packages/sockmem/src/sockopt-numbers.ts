/**
 * Option names of the SOL_SOCKET level with their numbers on x86-64, and the parcel in which an option's
 * value travels between the system call and the protocol.
 */
import type { UserBuffer } from '@netmem/memory'

export const SOL_SOCKET = 1

/** Models the `SO_*` numbers of include/uapi/asm-generic/socket.h. Users type the names. */
export const SO = {
  SO_DEBUG: 1,
  SO_REUSEADDR: 2,
  SO_TYPE: 3,
  SO_ERROR: 4,
  SO_DONTROUTE: 5,
  SO_BROADCAST: 6,
  SO_SNDBUF: 7,
  SO_RCVBUF: 8,
  SO_KEEPALIVE: 9,
  SO_OOBINLINE: 10,
  SO_NO_CHECK: 11,
  SO_PRIORITY: 12,
  SO_LINGER: 13,
  SO_BSDCOMPAT: 14,
  SO_REUSEPORT: 15,
  SO_PASSCRED: 16,
  SO_PEERCRED: 17,
  SO_RCVLOWAT: 18,
  SO_SNDLOWAT: 19,
  SO_RCVTIMEO: 20,
  SO_SNDTIMEO: 21,
  SO_BINDTODEVICE: 25,
  SO_ATTACH_FILTER: 26,
  SO_DETACH_FILTER: 27,
  SO_PEERNAME: 28,
  SO_TIMESTAMP: 29,
  SO_ACCEPTCONN: 30,
  SO_SNDBUFFORCE: 32,
  SO_RCVBUFFORCE: 33,
  SO_TIMESTAMPNS: 35,
  SO_MARK: 36,
  SO_TIMESTAMPING: 37,
  SO_PROTOCOL: 38,
  SO_DOMAIN: 39,
  SO_RXQ_OVFL: 40,
  SO_WIFI_STATUS: 41,
  SO_PEEK_OFF: 42,
  SO_NOFCS: 43,
  SO_LOCK_FILTER: 44,
  SO_SELECT_ERR_QUEUE: 45,
  SO_BUSY_POLL: 46,
  SO_MAX_PACING_RATE: 47,
  SO_BPF_EXTENSIONS: 48,
  SO_INCOMING_CPU: 49,
  SO_ATTACH_BPF: 50,
  SO_CNX_ADVICE: 53,
  SO_MEMINFO: 55,
  SO_INCOMING_NAPI_ID: 56,
  SO_COOKIE: 57,
  SO_ZEROCOPY: 60,
  SO_TXTIME: 61,
  SO_BINDTOIFINDEX: 62,
  SO_PREFER_BUSY_POLL: 69,
  SO_BUSY_POLL_BUDGET: 70,
  SO_NETNS_COOKIE: 71,
  SO_BUF_LOCK: 72,
  SO_RESERVE_MEM: 73,
  SO_TXREHASH: 74,
  SO_RCVMARK: 75,
} as const

export type SockoptName = keyof typeof SO

/**
 * An option's value on its way in or out; one object is reused per call site. `int` is the value as the
 * signed 32-bit number most options are, `words` what wider ones carry (SO_LINGER: on, seconds;
 * SO_MEMINFO: nine numbers), `len` the length in bytes the caller gave, or got.
 */
export class OptVal {
  int = 0
  len = 4
  /** Thirty-two 32-bit words; a 64-bit value takes two, low first. */
  readonly words = new Int32Array(32)
  text = ''
  /** A classic BPF program, four numbers per instruction (code, jt, jf, k); null when there is none. */
  program: Int32Array | null = null
  /** The user memory that a pointer inside the value points into; null when nothing is mapped there. */
  buffer: UserBuffer | null = null
}
