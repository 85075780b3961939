/** The receive side of a veth, as data. */
import type { Cpu } from '@netmem/base'
import type { PagePool } from '@netmem/page-pool'
import type { SkBuff } from '@netmem/skbuff'
import type { NapiStruct } from '../napi-struct.js'
import type { NetDevice } from '../net-device.js'
import type { XdpProgram } from '../xdp.js'
import type { XdpFrame } from '../xdp-frame.js'

/** Models `VETH_RING_SIZE`, in packets. */
export const VETH_RING_SIZE = 256
/** Models `VETH_XDP_TX_BULK_SIZE` and `VETH_XDP_BATCH`, in frames. */
export const VETH_XDP_TX_BULK_SIZE = 16
export const VETH_XDP_BATCH = 16

/** Models `struct veth_rq`. */
export class VethRq {
  /** null while neither a program nor GRO needs it. */
  napi: NapiStruct | null = null
  pool: PagePool | null = null
  /** Models `xdp_ring`: packets from the peer, and frames. */
  readonly ring: (SkBuff | XdpFrame)[] = []
  ringHead = 0
  rxNotifyMasked = false
  /** Models `veth_xdp_tx_bq`: frames on their way back. */
  readonly txBulk: XdpFrame[] = []
  /** Frames that passed, to be made packets in one go. */
  readonly passed: XdpFrame[] = []
  // Models `struct veth_stats`.
  xdpPackets = 0
  xdpBytes = 0
  xdpDrops = 0
  xdpTx = 0
  xdpTxErr = 0
  xdpRedirect = 0
  rxDrops = 0
  peerTqXdpXmit = 0
  peerTqXdpXmitErr = 0

  constructor(
    readonly dev: NetDevice,
    readonly index: number,
  ) {}
}

/** Models `struct veth_priv`. */
export class VethPriv {
  peer: NetDevice | null = null
  /** Models `_xdp_prog`. */
  prog: XdpProgram | null = null
  dropped = 0
  readonly rq: VethRq[] = []

  constructor(
    /** Sends frames to the peer: XDP_TX. @returns how many were taken, or -errno. */
    readonly xmitBack: (cpu: Cpu, dev: NetDevice, frames: XdpFrame[], n: number) => number,
  ) {}
}
