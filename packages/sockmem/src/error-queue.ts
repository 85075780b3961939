/**
 * The error queue: ICMP errors, timestamps and zero-copy notifications that wait for recvmsg(MSG_ERRQUEUE).
 * What an entry tells is kept in the packet's control block.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { type SkBuff, skbDequeue, skbOrphan, skbPeek, skbQueueTail } from '@netmem/skbuff'
import { SOCKF_DEAD } from './constants.js'
import type { SockExtendedErr } from './msg.js'
import type { Sock } from './sock.js'

// `ee_origin` (include/uapi/linux/errqueue.h).
export const SO_EE_ORIGIN_NONE = 0
export const SO_EE_ORIGIN_LOCAL = 1
export const SO_EE_ORIGIN_ICMP = 2
export const SO_EE_ORIGIN_ICMP6 = 3
export const SO_EE_ORIGIN_TIMESTAMPING = 4
/** Models `SO_EE_ORIGIN_ZEROCOPY`: the entry tells which sends by reference are over. */
export const SO_EE_ORIGIN_ZEROCOPY = 5

/** Models `SKB_EXT_ERR(skb)->ee = …`: writes the entry into the control block. */
export function setSkbExtErr(
  skb: SkBuff,
  errno: number,
  origin: number,
  type: number,
  code: number,
  info: number,
  data: number,
): void {
  skb.cb4 = errno
  skb.cb5 = origin | (type << 8) | (code << 16)
  skb.cb6 = info | 0
  skb.cb7 = data | 0
}

/** Models reading `SKB_EXT_ERR(skb)->ee`. */
export function skbExtErr(skb: SkBuff, out: SockExtendedErr): void {
  out.eeErrno = skb.cb4
  out.eeOrigin = skb.cb5 & 0xff
  out.eeType = (skb.cb5 >> 8) & 0xff
  out.eeCode = (skb.cb5 >> 16) & 0xff
  out.eeInfo = skb.cb6 >>> 0
  out.eeData = skb.cb7 >>> 0
}

/**
 * The control message of `recvmsg(MSG_ERRQUEUE)`: models `struct sock_extended_err` with the address of whoever
 * complained behind it, which is all zero for errors of this machine's own.
 *
 * @param offenderBytes of that address: 16 for IPv4, 28 for IPv6.
 */
export function sockExtendedErrBytes(err: SockExtendedErr, offenderBytes: number): Uint8Array {
  const bytes = new Uint8Array(16 + offenderBytes)
  const dv = new DataView(bytes.buffer)
  dv.setUint32(0, err.eeErrno, true)
  bytes[4] = err.eeOrigin
  bytes[5] = err.eeType
  bytes[6] = err.eeCode
  dv.setUint32(8, err.eeInfo, true)
  dv.setUint32(12, err.eeData, true)
  return bytes
}

/** The origin alone, which coalescing of notifications asks. */
export const skbExtErrOrigin = (skb: SkBuff): number => skb.cb5 & 0xff

/**
 * Models `sock_queue_err_skb` (net/core/skbuff.c). Charged to receive memory, not to the protocol.
 *
 * @returns 0 and takes the skb, or -ENOMEM when the receive buffer has no room for it.
 */
export function sockQueueErrSkb(cpu: Cpu, sk: Sock, skb: SkBuff): number {
  if (sk.rmemAlloc + skb.truesize >= sk.rcvbuf) return -ERRNO.ENOMEM
  skbOrphan(cpu, skb)
  skb.sk = sk.id
  skb.destructor = sk.env.sockRmemFree
  sk.rmemAlloc += skb.truesize
  skbQueueTail(sk.errorQueue, skb)
  if ((sk.flags & SOCKF_DEAD) === 0) sk.errorReport(cpu, sk)
  return 0
}

/** Models `is_icmp_err_skb`. */
const isIcmpErr = (skb: SkBuff): boolean =>
  skbExtErrOrigin(skb) === SO_EE_ORIGIN_ICMP || skbExtErrOrigin(skb) === SO_EE_ORIGIN_ICMP6

/** Models `sock_dequeue_err_skb` (net/core/skbuff.c): an ICMP error behind it becomes the socket's error again. */
export function sockDequeueErrSkb(cpu: Cpu, sk: Sock): SkBuff | null {
  const skb = skbDequeue(sk.errorQueue)
  if (skb === null) return null
  const next = skbPeek(sk.errorQueue)
  const icmpNext = next !== null && isIcmpErr(next)
  if (icmpNext) sk.err = next.cb4
  if (isIcmpErr(skb) && !icmpNext) sk.err = 0
  if (next !== null) sk.errorReport(cpu, sk)
  return skb
}
