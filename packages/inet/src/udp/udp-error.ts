/** What an ICMP error does to the UDP socket whose packet it is about. */
import { type Cpu, ERRNO } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import { type Sock, skErrorReport, TCP_ESTABLISHED } from '@netmem/sockmem'
import { ICMP_ERR_CONVERT } from '../icmp.js'
import { ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED } from '../icmp-slots.js'
import { IP_PMTUDISC_DONT } from '../ip/ip-make.js'
import { ipIcmpError } from '../ip/ip-sockglue.js'
import type { Udp } from './udp-env.js'
import { udpSk } from './udp-sock.js'
import { udp4LibLookup } from './udp-table.js'

/**
 * Models `__udp4_lib_err` (net/ipv4/udp.c).
 *
 * @param skb the ICMP packet, `data` at the quoted IP header, which and eight bytes more are linear.
 */
export function udpErr(udp: Udp, cpu: Cpu, skb: SkBuff, type: number, code: number, info: number): void {
  const { env } = udp
  const { dv, u8 } = env.mem
  const iph = skb.data >>> 0
  const uh = iph + (u8[iph] & 15) * 4
  const { ns } = env.devs.devices[skb.dev] as { ns: number }
  const sk = udp4LibLookup(
    env,
    udp.table,
    ns,
    dv.getInt32(iph + 16),
    dv.getUint16(uh + 2),
    dv.getInt32(iph + 12),
    dv.getUint16(uh),
    skb.skbIif,
  )
  if (sk === null) return
  let errno: number = ERRNO.EHOSTUNREACH
  let harderr = false
  if (type === ICMP_DEST_UNREACH) {
    if (code === ICMP_FRAG_NEEDED) {
      if (udpSk(sk).inet.pmtudisc === IP_PMTUDISC_DONT) return
      errno = ERRNO.EMSGSIZE
      harderr = true
    } else if (code < ICMP_ERR_CONVERT.length) [errno, harderr] = ICMP_ERR_CONVERT[code]
  } else if (type === 12) {
    errno = 71
    harderr = true
  }
  reportError(cpu, sk, skb, errno, harderr, type, code, info, uh - iph + 8)
}

/** The error becomes the socket's own: always when it asked for errors, else when it is connected and the error final. */
export function reportError(
  cpu: Cpu,
  sk: Sock,
  skb: SkBuff,
  errno: number,
  harderr: boolean,
  type: number,
  code: number,
  info: number,
  payload: number,
): void {
  const { inet } = udpSk(sk)
  if (sk.v6 !== null ? inet.recverr6 : inet.recverr) ipIcmpError(cpu, sk, skb, errno, type, code, info, payload)
  else if (!harderr || sk.state !== TCP_ESTABLISHED) return
  sk.err = errno
  skErrorReport(cpu, sk)
}
