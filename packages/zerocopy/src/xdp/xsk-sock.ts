/**
 * The socket: what a program opens, configures ring by ring, and binds to one queue of a device.
 *
 *     READY    options may be set
 *     BOUND    packets flow
 *     UNBOUND  the device is gone, or the socket is being closed
 */
import type { Cpu } from '@netmem/base'
import type { SkBuff } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import type { NetDevice, XdpBuff, XskSlot } from '@netmem/virtual-nic'
import { TX_BATCH_SIZE } from './uapi.js'
import type { XdpUmem } from './xdp-umem.js'
import type { XskBuffPool } from './xsk-buff-pool.js'
import type { XskEnv } from './xsk-env.js'
import type { XskQueue } from './xsk-queue.js'
import { xskFlush, xskGenericRcv, xskRcv } from './xsk-rcv.js'
import { XSK_BOUND, XSK_READY } from './xsk-state.js'
import { XdpDesc } from './xsk-tx-desc.js'
import type { XskMap } from './xskmap.js'

/** Models `struct xdp_sock` (include/net/xdp_sock.h); the receive path of virtual-nic calls it through its slot. */
export class XdpSock implements XskSlot {
  state = XSK_READY
  rx: XskQueue | null = null
  tx: XskQueue | null = null
  /** Rings that were set before there is a pool to own them. */
  fqTmp: XskQueue | null = null
  cqTmp: XskQueue | null = null
  umem: XdpUmem | null = null
  pool: XskBuffPool | null = null
  dev: NetDevice | null = null
  /** Its id, at hand. */
  devId = 0
  queueId = 0
  zc = false
  sg = false
  /** A packet whose last descriptor has not come yet; and whether the rest of a broken one is to be thrown away. */
  skb: SkBuff | null = null
  drainCont = false
  maxTxBudget = TX_BATCH_SIZE
  rxDropped = 0
  rxQueueFull = 0
  /** Maps that name this socket; it leaves them when it is closed. */
  readonly maps = new Set<XskMap>()
  /** The descriptor that is being looked at. */
  readonly desc = new XdpDesc()

  constructor(
    readonly env: XskEnv,
    readonly sk: Sock,
  ) {}

  rcv(cpu: Cpu, xdp: XdpBuff): number {
    return xskRcv(cpu, this, xdp)
  }

  genericRcv(cpu: Cpu, xdp: XdpBuff): number {
    return xskGenericRcv(cpu, this, xdp)
  }

  flush(cpu: Cpu): void {
    xskFlush(cpu, this)
  }
}

/** Models `xdp_sk`. */
export const xdpSk = (sk: Sock): XdpSock => sk.priv as XdpSock

/** Models `xsk_is_bound`. */
export const xskIsBound = (xs: XdpSock): boolean => xs.state === XSK_BOUND
