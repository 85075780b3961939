/** What a CPU's polls have redirected and not yet sent on. */
import type { NetDevice } from './net-device.js'
import type { XskSlot } from './xdp.js'
import type { XdpFrame } from './xdp-frame.js'

/** Models `DEV_MAP_BULK_SIZE`, in frames. */
export const DEV_MAP_BULK_SIZE = 16

/** Models `struct xdp_dev_bulk_queue` of one CPU: frames for one device. */
export class XdpDevBulkQueue {
  readonly frames: XdpFrame[] = []
  constructor(readonly dev: NetDevice) {}
}

/** What one CPU's polls have redirected and not yet flushed. */
export class XdpFlushLists {
  readonly devs: XdpDevBulkQueue[] = []
  readonly xsks: XskSlot[] = []
}
