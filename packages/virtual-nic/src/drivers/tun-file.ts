/**
 * A TUN or TAP device and its queues, as data. Each queue is an open file: what the host sends waits in its
 * ring until the file is read; what is written to the file is received by the host.
 *
 * Law per queue: `wmemAlloc` = 1 + Σ truesize of the skbs that were written and not yet orphaned.
 */
import { type Addr, assert, type Cpu, NULL } from '@netmem/base'
import { kmalloc } from '@netmem/memory'
import { AllocSkbError, registerSkbDestructor, type SkBuff, SkbQueue } from '@netmem/skbuff'
import type { NapiStruct } from '../napi-struct.js'
import type { NetDevice } from '../net-device.js'
import type { NetDevs } from '../net-devs.js'
import type { XdpProgram } from '../xdp.js'
import type { XdpFrame } from '../xdp-frame.js'
import { VIRTIO_NET_HDR_BYTES, VirtioNetHdr } from './virtio-net-hdr.js'

/** Models `IFF_TUN` and the other flags of TUNSETIFF (include/uapi/linux/if_tun.h). */
export const IFF_TUN = 0x0001
export const IFF_TAP = 0x0002
export const IFF_NAPI = 0x0010
export const IFF_NAPI_FRAGS = 0x0020
export const IFF_MULTI_QUEUE = 0x0100
export const IFF_ATTACH_QUEUE = 0x0200
export const IFF_DETACH_QUEUE = 0x0400
export const IFF_NO_PI = 0x1000
export const IFF_ONE_QUEUE = 0x2000
export const IFF_VNET_HDR = 0x4000
export const IFF_TUN_EXCL = 0x8000

/** Models `MAX_TAP_QUEUES`. */
export const MAX_TAP_QUEUES = 256
/** Models `INT_MAX`, the send buffer of a queue until TUNSETSNDBUF: no limit, and the quick receive path. */
export const TUN_SNDBUF_UNLIMITED = 0x7fffffff

const SCRATCH_BYTES = 256

/** Models `struct tun_file`: one open queue. */
export class TunFile {
  tun: TunStruct | null = null
  /** Models `tfile->detached`: attached to no queue of the device for now. */
  detached = false
  queueIndex = 0
  /** Models the socket's `sk_sndbuf` and `sk_wmem_alloc` (which counts the socket itself as 1). */
  sndbuf = TUN_SNDBUF_UNLIMITED
  wmemAlloc = 1
  /** Models `tx_ring`: what the host sent, oldest first. Packets by id; XDP frames beside them. */
  readonly txRing: (SkBuff | XdpFrame)[] = []
  txHead = 0
  /** Models `sk_write_queue`, where packets wait for the queue's NAPI. */
  readonly writeQueue: SkbQueue
  napi: NapiStruct | null = null
  napiFrags = false
  readonly allocError = new AllocSkbError()

  constructor(
    readonly driver: TunDriver,
    /** What `skb.sk` holds for packets of this queue: negative, so that no socket has it. */
    readonly sk: number,
  ) {
    this.writeQueue = new SkbQueue(driver.env.skbs)
  }
}

/** Models `struct tun_struct`. */
export class TunStruct {
  /** Attached queues, by queue index. */
  readonly tfiles: TunFile[] = []
  /** Queues that were detached and still belong to the device. */
  readonly disabled: TunFile[] = []
  vnetHdrSz = VIRTIO_NET_HDR_BYTES
  rxFrameErrors = 0
  /** Native XDP. */
  prog: XdpProgram | null = null
  /** Models the flow table: queue by symmetric flow hash, learned from what was written. */
  readonly flows = new Map<number, number>()
  persist = false

  constructor(
    readonly dev: NetDevice,
    /** Bits of `IFF_*`. */
    readonly flags: number,
  ) {}
}

/** The driver of one machine. */
export class TunDriver {
  /** Open files by `-sk`; index 0 is not used. */
  readonly files: (TunFile | null)[] = [null]
  readonly devices: TunStruct[] = []
  /** Number of the destructor that uncharges a queue: models `sock_wfree` for the queue's socket. */
  readonly wfree: number
  readonly hdr = new VirtioNetHdr()
  private stack = NULL

  constructor(readonly env: NetDevs) {
    this.wfree = registerSkbDestructor(env.skbs, (_cpu: Cpu, skb: SkBuff) => {
      const tfile = this.files[-skb.sk]
      if (tfile) tfile.wmemAlloc -= skb.truesize
      skb.sk = 0
    })
  }

  /** Where small headers are put together: what is a local variable in the kernel. */
  scratch(cpu: Cpu): Addr {
    if (this.stack === NULL) {
      const { mem } = this.env
      this.stack = kmalloc(mem, cpu, SCRATCH_BYTES, mem.gfp.GFP_KERNEL, 'tun_init')
      assert(this.stack !== NULL, 'tun: no memory at all')
    }
    return this.stack
  }
}

/** Models the module's initialisation: `tun_init`. */
export const tunInit = (env: NetDevs): TunDriver => new TunDriver(env)

/** Models `skb_set_owner_w` for a queue's socket. */
export function tunSetOwner(tfile: TunFile, skb: SkBuff): void {
  skb.sk = tfile.sk
  skb.destructor = tfile.driver.wfree
  tfile.wmemAlloc += skb.truesize
}
