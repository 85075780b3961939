/**
 * `struct msghdr` as the kernel passes it down: where the bytes are, to whom they go, with what flags and
 * control messages. One object per call site is reused for every call.
 */
import { IovIter } from '@netmem/memory'

/** An address in any of the families: 0 lengths and fields mean "none". */
export class SockAddr {
  /** 0 when there is no address at all. */
  family = 0
  port = 0
  /** IPv4 address as a big-endian word, signed. */
  addr = 0
  /** IPv6 address, four big-endian words. */
  readonly addr6 = new Int32Array(4)
  /** Interface index: scope of IPv6, interface of packet sockets. */
  ifindex = 0
  /** EtherType of packet sockets, host order. */
  protocol = 0
  /** Path of AF_UNIX; the device's name for the oldest packet sockets. */
  path = ''
  /** Of packet sockets: device type, packet type, and the link address with its length. */
  hatype = 0
  pkttype = 0
  halen = 0
  readonly hwAddr = new Uint8Array(8)

  clear(): void {
    this.family = 0
    this.port = 0
    this.addr = 0
    this.addr6.fill(0)
    this.ifindex = 0
    this.protocol = 0
    this.path = ''
    this.hatype = 0
    this.pkttype = 0
    this.halen = 0
    this.hwAddr.fill(0)
  }

  copyFrom(other: SockAddr): void {
    this.family = other.family
    this.port = other.port
    this.addr = other.addr
    this.addr6.set(other.addr6)
    this.ifindex = other.ifindex
    this.protocol = other.protocol
    this.path = other.path
    this.hatype = other.hatype
    this.pkttype = other.pkttype
    this.halen = other.halen
    this.hwAddr.set(other.hwAddr)
  }
}

/** One control message (`struct cmsghdr`): level, type and up to a few words of data. */
export interface Cmsg {
  level: number
  type: number
  value: number
  /** Data wider than one number. */
  data?: readonly number[] | Uint8Array
}

/** Models `struct sock_extended_err`, as `MSG_ERRQUEUE` gives it to the user. */
export class SockExtendedErr {
  eeErrno = 0
  eeOrigin = 0
  eeType = 0
  eeCode = 0
  eeInfo = 0
  eeData = 0
}

/** Models `struct msghdr`. */
export class Msg {
  readonly iter: IovIter = new IovIter()
  /** `MSG_*` of the call. */
  flags = 0
  /** `MSG_*` that the call gives back (`msg_flags`). */
  msgFlags = 0
  /** In: destination, when `family` is not 0. Out: source. */
  readonly name = new SockAddr()
  /** Whether the caller gave room for a source address. */
  wantName = false
  /** Control messages in (null: none), and out when `wantControl` is set. */
  control: Cmsg[] | null = null
  wantControl = false
  /** Out, with MSG_ERRQUEUE. */
  readonly err = new SockExtendedErr()
  hasErr = false
  /** A zero-copy user reference to send with (`msg_ubuf`), by its number, 0 none. */
  ubuf = 0

  /** Makes the message empty again; the iterator is set by its own init. */
  reset(flags: number): void {
    this.flags = flags
    this.msgFlags = 0
    this.name.family = 0
    this.wantName = false
    this.control = null
    this.wantControl = false
    this.hasErr = false
    this.ubuf = 0
  }
}

/** Models `put_cmsg`: appends one control message when the caller gave room for them. */
export function putCmsg(
  msg: Msg,
  level: number,
  type: number,
  value: number,
  data?: readonly number[] | Uint8Array,
): void {
  if (!msg.wantControl) return
  msg.control ??= []
  msg.control.push(data === undefined ? { level, type, value } : { level, type, value, data })
}
