/** What a datagram under construction needs to remember between the pieces it is built from. */
import type { Addr } from '@netmem/base'
import { NULL } from '@netmem/base'
import type { Dst } from '../dst.js'

/** Models `struct inet_cork`, with the flow that goes with it. */
export class Cork {
  dst: Dst | null = null
  /** Bytes per packet at most, headers included. */
  fragsize = 0
  /** Bytes appended so far, the transport header included. */
  length = 0
  /** Payload bytes per segment of a UDP GSO send, 0 for none. */
  gsoSize = 0
  /** Address of copied IP options, kept until the packet is made. */
  opt = NULL as Addr
  tos = 0
  ttl = 0
  mark = 0
  priority = 0
  saddr = 0
  daddr = 0
  sport = 0
  dport = 0
  /** IPv6 addresses of the flow. */
  readonly saddr6 = new Int32Array(4)
  readonly daddr6 = new Int32Array(4)
}

/** Models `struct ipcm_cookie`: what one call says about its packet. Reused for every call. */
export class IpcmCookie {
  gsoSize = 0
  tos = -1
  ttl = 0
  mark = 0
  priority = 0
  oif = 0
  /** The packet carries the (empty) options of an ICMP reply. */
  opt = false
}
