/**
 * A veth pair: two devices, each the other's cable. What one sends, the other receives: through the CPU's
 * backlog, the very same skb; or, when the receiver has a NAPI (it runs an XDP program, or GRO and the sender does
 * not segment), through a ring per queue.
 *
 * Law per queue: the ring holds at most `VETH_RING_SIZE` packets and frames, and only while its NAPI exists.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { pagePoolCreate, pagePoolDestroy } from '@netmem/page-pool'
import { kfreeSkb, pskbMayPull, SkBuff } from '@netmem/skbuff'
import { netifRxUnchecked } from '../backlog.js'
import { netdevRegister, netdevUnregister, netdevUpdateFeatures } from '../dev-register.js'
import { ETH_HLEN, ETH_MAX_MTU } from '../eth.js'
import {
  NETIF_F_ALL_TSO,
  NETIF_F_FRAGLIST,
  NETIF_F_GRO,
  NETIF_F_GRO_FRAGLIST,
  NETIF_F_GRO_UDP_FWD,
  NETIF_F_GSO_SOFTWARE,
  NETIF_F_HIGHDMA,
  NETIF_F_HW_CSUM,
  NETIF_F_HW_VLAN_CTAG_RX,
  NETIF_F_HW_VLAN_CTAG_TX,
  NETIF_F_LLTX,
  NETIF_F_RXCSUM,
  NETIF_F_SG,
} from '../features.js'
import { devForwardSkb } from '../forward.js'
import { groFreeHeld } from '../gro.js'
import { ptrRingHolders } from '../holders.js'
import { napiDisable, napiEnable, netifNapiAdd, netifNapiDel } from '../napi.js'
import {
  NET_RX_SUCCESS,
  NET_XMIT_DROP,
  NETDEV_TX_BUSY,
  NETDEV_TX_OK,
  type NetDevice,
  type NetDeviceOps,
  netifCarrierOff,
  netifCarrierOn,
  RX_BYTES,
  RX_DROPPED,
  RX_PACKETS,
  TX_BYTES,
  TX_DROPPED,
  TX_PACKETS,
} from '../net-device.js'
import type { NetDevs } from '../net-devs.js'
import { netifTxStopQueue } from '../netdev-queue.js'
import { XDP_PACKET_HEADROOM, type XdpProgram } from '../xdp.js'
import { type XdpFrame, xdpGetFrameLen } from '../xdp-frame.js'
import { xdpReturn } from '../xdp-redirect.js'
import { vethPoll, vethXdpFlushRing } from './veth-poll.js'
import { VETH_RING_SIZE, VethPriv, VethRq } from './veth-queue.js'

/** Models `VETH_FEATURES`. */
const VETH_FEATURES =
  NETIF_F_SG |
  NETIF_F_FRAGLIST |
  NETIF_F_HW_CSUM |
  NETIF_F_RXCSUM |
  NETIF_F_HIGHDMA |
  NETIF_F_GSO_SOFTWARE |
  NETIF_F_HW_VLAN_CTAG_TX |
  NETIF_F_HW_VLAN_CTAG_RX

/** What one end is called, and where. */
export interface VethEndParams {
  readonly name: string
  readonly ns?: number
}

/**
 * Models `veth_newlink`.
 *
 * @returns both ends, down; or -errno with neither.
 */
export function vethCreate(
  env: NetDevs,
  a: VethEndParams,
  b: VethEndParams,
  cpu: Cpu,
  queues = 1,
): [NetDevice, NetDevice] | number {
  const first = vethRegister(env, a, queues)
  if (typeof first === 'number') return first
  const second = vethRegister(env, b, queues)
  if (typeof second === 'number') {
    netdevUnregister(env, first, cpu)
    return second
  }
  veth(first).peer = second
  veth(second).peer = first
  return [first, second]
}

const veth = (dev: NetDevice): VethPriv => dev.priv as VethPriv

function vethRegister(env: NetDevs, p: VethEndParams, queues: number): NetDevice | number {
  return netdevRegister(env, {
    name: p.name,
    ns: p.ns ?? 0,
    ops: vethOps,
    txQueues: queues,
    rxQueues: queues,
    setup: (dev) => {
      dev.speed = 10_000
      const priv = new VethPriv((c, d, frames, n) => vethXdpXmit(c, d, frames, n, false, false))
      for (let i = 0; i < queues; i++) priv.rq.push(new VethRq(dev, i))
      dev.priv = priv
      dev.maxMtu = ETH_MAX_MTU
      dev.noQueue = true
      dev.carrier = false
      dev.hwFeatures = VETH_FEATURES
      dev.features = NETIF_F_LLTX | VETH_FEATURES
      // GRO makes sense only for those who ask for it: the packets were never cut.
      dev.softFeaturesOff = NETIF_F_GRO
      dev.audit = () => auditVeth(dev)
      dev.holders = (visit) => {
        for (const { index, ring, ringHead, txBulk, passed } of priv.rq) {
          ptrRingHolders(env, ring.slice(ringHead), `${dev.name}: ring ${index}`, visit)
          ptrRingHolders(env, [...txBulk, ...passed], `${dev.name}: frames of queue ${index}`, visit)
        }
      }
    },
  })
}

// Transmit.

/** Models `veth_xmit` (drivers/net/veth.c). Takes the skb unless the queue above must wait. */
function vethXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  const priv = veth(dev)
  const rcv = priv.peer
  if (rcv === null || !pskbMayPull(cpu, skb, ETH_HLEN)) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'veth_xmit')
    priv.dropped++
    return NET_XMIT_DROP
  }
  const length = skb.len
  const rq = veth(rcv).rq[skb.queueMapping]
  const useNapi = rq !== undefined && rq.napi !== null && vethSkbIsEligibleForGro(dev, rcv, skb)
  const ret = vethForwardSkb(cpu, rcv, skb, useNapi ? rq : null)
  if (ret === NET_RX_SUCCESS) {
    if (useNapi) vethXdpFlushRing(cpu, rq)
    else {
      dev.stats[TX_PACKETS]!++
      dev.stats[TX_BYTES]! += length
    }
    return NETDEV_TX_OK
  }
  if (ret === NETDEV_TX_BUSY) {
    const txq = dev.txq[skb.queueMapping]!
    if (txq.qdisc === null) {
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'veth_xmit')
      priv.dropped++
      return NET_XMIT_DROP
    }
    // Somebody put a queue above this device: it can wait until the ring has room.
    netifTxStopQueue(txq)
    return NETDEV_TX_BUSY
  }
  priv.dropped++
  return NET_XMIT_DROP
}

/** Models `veth_skb_is_eligible_for_gro`: packets that will not be cut again gain nothing from being merged. */
function vethSkbIsEligibleForGro(dev: NetDevice, rcv: NetDevice, skb: SkBuff): boolean {
  if ((dev.features & NETIF_F_ALL_TSO) === 0) return true
  return (
    skb.destructor === dev.env.slots.sockWfree &&
    skb.destructor !== 0 &&
    (rcv.features & (NETIF_F_GRO_FRAGLIST | NETIF_F_GRO_UDP_FWD)) !== 0
  )
}

/** Models `veth_forward_skb`. @returns `NET_RX_*`, or `NETDEV_TX_BUSY` with the skb still the caller's. */
function vethForwardSkb(cpu: Cpu, rcv: NetDevice, skb: SkBuff, rq: VethRq | null): number {
  const rc = devForwardSkb(cpu, rcv, skb)
  if (rc !== NET_RX_SUCCESS) return rc
  if (rq === null) return netifRxUnchecked(rcv.env, cpu, skb)
  if (rq.ring.length - rq.ringHead >= VETH_RING_SIZE) {
    if (rcv.env.profile.features.vethBusyOnFullRing) return NETDEV_TX_BUSY
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'veth_xmit')
    return NET_XMIT_DROP
  }
  rq.ring.push(skb)
  return NET_RX_SUCCESS
}

/** Models `veth_xdp_xmit`: frames from elsewhere, or from the peer's own program. */
function vethXdpXmit(cpu: Cpu, dev: NetDevice, frames: XdpFrame[], n: number, flush: boolean, ndo = true): number {
  const priv = veth(dev)
  const rcv = priv.peer
  if (rcv === null) return -ERRNO.ENXIO
  const rq = veth(rcv).rq[cpu.id % veth(rcv).rq.length]!
  // Only a NAPI empties the ring: without one on the other side nothing can be sent this way.
  if (rq.napi === null) return -ERRNO.ENXIO
  const maxLen = rcv.mtu + rcv.hardHeaderLen + 4
  let sent = 0
  while (sent < n) {
    const frame = frames[sent]!
    if (
      xdpGetFrameLen(rcv.env.mem, frame, rcv.env.xdpFrameBytes, rcv.env.skbs.sizes.sharedInfoBytes) > maxLen ||
      rq.ring.length - rq.ringHead >= VETH_RING_SIZE
    )
      break
    rq.ring.push(frame)
    sent++
  }
  if (flush) vethXdpFlushRing(cpu, rq)
  if (ndo) {
    rq.peerTqXdpXmit += sent
    rq.peerTqXdpXmitErr += n - sent
  }
  return sent
}

// Up, down, settings.

function vethOpen(dev: NetDevice, cpu: Cpu): number {
  const priv = veth(dev)
  const { peer } = priv
  if (peer === null) return -ERRNO.ENOTCONN
  if (priv.prog !== null || groRequested(dev)) {
    const rc = vethNapiEnable(dev, cpu)
    if (rc !== 0) return rc
  }
  if (peer.running) {
    netifCarrierOn(dev)
    netifCarrierOn(peer)
  }
  return 0
}

function vethClose(dev: NetDevice, cpu: Cpu): void {
  const { peer } = veth(dev)
  netifCarrierOff(dev)
  if (peer !== null) netifCarrierOff(peer)
  vethNapiDisable(dev, cpu)
}

const groRequested = (dev: NetDevice): boolean => (dev.wantedFeatures & NETIF_F_GRO) !== 0

/** Models `__veth_napi_enable`: a page pool per queue where the kernel has them, and the NAPI. */
function vethNapiEnable(dev: NetDevice, cpu: Cpu): number {
  const { env } = dev
  for (const rq of veth(dev).rq) {
    if (rq.napi !== null) continue
    if (env.profile.features.vethPagePool) {
      const pool = pagePoolCreate(env.pagePools, cpu, {
        poolSize: VETH_RING_SIZE,
        nid: -1,
        label: `${dev.name} rx ${rq.index}`,
      })
      if (typeof pool === 'number') {
        vethNapiDisable(dev, cpu)
        return pool
      }
      rq.pool = pool
    }
    const napi = netifNapiAdd(env, dev, vethPoll)
    napi.priv = rq
    napiEnable(napi)
    rq.napi = napi
  }
  return 0
}

/** Models `veth_napi_del`: what still waits in the rings is freed. */
function vethNapiDisable(dev: NetDevice, cpu: Cpu): void {
  for (const rq of veth(dev).rq) {
    if (rq.napi !== null) {
      napiDisable(rq.napi)
      netifNapiDel(cpu, rq.napi, groFreeHeld)
      rq.napi = null
    }
    rq.rxNotifyMasked = false
    for (let i = rq.ringHead; i < rq.ring.length; i++) {
      const entry = rq.ring[i]!
      if (entry instanceof SkBuff) kfreeSkb(cpu, entry, 'NOT_SPECIFIED', 'veth_ptr_free')
      else xdpReturn(dev.env, cpu, entry, false)
    }
    rq.ring.length = 0
    rq.ringHead = 0
    pagePoolDestroy(cpu, rq.pool)
    rq.pool = null
  }
}

/** Models `veth_xdp_set`. @returns 0, `-ERANGE` when the peer's MTU does not fit a page, or another -errno. */
function vethXdpSet(dev: NetDevice, prog: XdpProgram | null, cpu: Cpu): number {
  const priv = veth(dev)
  const { peer } = priv
  const old = priv.prog
  const { sizes } = dev.env.skbs
  if (prog !== null) {
    if (peer === null) return -ERRNO.ENOTCONN
    let maxMtu = sizes.pageBytes - XDP_PACKET_HEADROOM - sizes.netIpAlign - sizes.sharedInfoBytes - peer.hardHeaderLen
    if (prog.hasFrags) maxMtu += sizes.pageBytes * sizes.maxFrags
    if (peer.mtu > maxMtu) return -ERRNO.ERANGE
    if (dev.realNumRxQueues < peer.realNumTxQueues) return -ERRNO.ENOSPC
    priv.prog = prog
    if (dev.running) {
      const rc = vethNapiEnable(dev, cpu)
      if (rc !== 0) {
        priv.prog = old
        return rc
      }
    }
    if (old === null) {
      peer.hwFeatures &= ~NETIF_F_GSO_SOFTWARE
      peer.maxMtu = maxMtu
    }
  } else if (old !== null) {
    priv.prog = null
    if (!groRequested(dev) && dev.running) vethNapiDisable(dev, cpu)
    if (peer !== null) {
      peer.hwFeatures |= NETIF_F_GSO_SOFTWARE
      peer.maxMtu = ETH_MAX_MTU
    }
  }
  if ((old === null) !== (prog === null) && peer !== null) netdevUpdateFeatures(peer, cpu)
  return 0
}

/** Models `veth_get_stats64` and `veth_stats_rx`: what NAPI received is counted by the queues of the receiver. */
function vethGetStats64(dev: NetDevice, out: Float64Array): void {
  const priv = veth(dev)
  out[TX_DROPPED]! += priv.dropped
  for (const rq of priv.rq) {
    out[TX_DROPPED]! += rq.xdpTxErr
    out[RX_DROPPED]! += rq.rxDrops + rq.peerTqXdpXmitErr
    out[RX_BYTES]! += rq.xdpBytes
    out[RX_PACKETS]! += rq.xdpPackets
  }
  const { peer } = priv
  if (peer === null) return
  out[RX_PACKETS]! += peer.stats[TX_PACKETS]!
  out[RX_BYTES]! += peer.stats[TX_BYTES]!
  for (const rq of veth(peer).rq) {
    out[TX_DROPPED]! += rq.peerTqXdpXmitErr
    out[RX_DROPPED]! += rq.xdpTxErr
    out[TX_BYTES]! += rq.xdpBytes
    out[TX_PACKETS]! += rq.xdpPackets
  }
}

const vethOps: NetDeviceOps = {
  open: vethOpen,
  stop: vethClose,
  uninit: (dev) => {
    const { peer } = veth(dev)
    if (peer !== null) veth(peer).peer = null
    veth(dev).peer = null
  },
  startXmit: vethXmit,
  /** Models `veth_fix_features`: a program on the other side must see single packets. */
  fixFeatures: (dev, features) => {
    const { peer } = (dev.priv as VethPriv | null) ?? { peer: null }
    return peer !== null && veth(peer).prog !== null ? features & ~NETIF_F_GSO_SOFTWARE : features
  },
  /** Models `veth_set_features`: GRO needs the NAPI. */
  setFeatures: (dev, features, cpu) => {
    const changed = (features ^ dev.features) & NETIF_F_GRO
    if (changed === 0 || !dev.running || veth(dev).prog !== null) return 0
    if ((features & NETIF_F_GRO) !== 0) return vethNapiEnable(dev, cpu)
    vethNapiDisable(dev, cpu)
    return 0
  },
  getStats64: vethGetStats64,
  xdpSet: vethXdpSet,
  xdpXmit: vethXdpXmit,
  xdpXmitSg: true,
}

/** @throws Error when a ring holds more than it can or something without a NAPI to take it. */
function auditVeth(dev: NetDevice): void {
  for (const rq of veth(dev).rq) {
    const waiting = rq.ring.length - rq.ringHead
    if (waiting > VETH_RING_SIZE) throw new Error(`${dev.name}: ring ${rq.index} holds ${waiting}`)
    if (waiting > 0 && rq.napi === null)
      throw new Error(`${dev.name}: ${waiting} wait in ring ${rq.index}, which has no NAPI`)
  }
}
