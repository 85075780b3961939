// The machine's device layer.

// Receive.
export { enqueueToBacklog, netifRx, netifRxUnchecked } from './backlog.js'
export { skbChecksumHelp } from './checksum-help.js'
export type { NetDeviceParams } from './dev-register.js'
export {
  devClose,
  devGetByName,
  devOpen,
  devSetMtu,
  devValidName,
  netdevRegister,
  netdevSetFeature,
  netdevUnregister,
  netdevUpdateFeatures,
} from './dev-register.js'
export {
  auditDmaRing,
  dmaRingUnused,
  NetdevDmaRing,
  netdevAllocDmaRing,
  netdevCleanRxDmaBuffers,
  netdevFreeDmaRing,
  netdevRefillRxDmaBuffers,
  netdevSetupRxDmaBuffers,
} from './drivers/dma-ring.js'
// Drivers.
export { e1000Create, type IntelNicParams } from './drivers/e1000.js'
export { e1000eCreate } from './drivers/e1000e.js'
export { loopbackCreate } from './drivers/loopback.js'
export { PpNic, type PpNicParams, ppNicCreate, ppNicDestroy } from './drivers/pp-nic.js'
export { ppNicXskHeld } from './drivers/pp-nic-xsk.js'
export { skbProbeTransportHeader } from './drivers/probe-transport.js'
export { RingNic, type RingNicParams, ringNicCreate } from './drivers/ring-nic.js'
export * from './drivers/tun.js'
export * from './drivers/tun-file.js'
export { tunGetUser } from './drivers/tun-rx.js'
export { type VethEndParams, vethCreate } from './drivers/veth.js'
export { VETH_RING_SIZE, VethPriv, VethRq } from './drivers/veth-queue.js'
export {
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VirtioNetHdr,
  virtioNetHdrFromSkb,
  virtioNetHdrRead,
  virtioNetHdrToSkb,
  virtioNetHdrWrite,
} from './drivers/virtio-net-hdr.js'
export { ETH_HLEN, ETH_MAX_MTU, ETH_ZLEN, ethHeaderWrite, ethTypeTrans } from './eth.js'
export * from './features.js'
export { reciprocalScale, skbGetHash, skbGetHashSymmetric } from './flow-hash.js'
export { devForwardSkb, skbScrubPacket } from './forward.js'
export {
  GRO_CONSUMED,
  GRO_HELD,
  GRO_MERGED,
  GRO_MERGED_FREE,
  GRO_NORMAL,
  napiGroReceive,
} from './gro.js'
export { skbGsoSegment } from './gso.js'
export { Dim, NET_DIM_RX_PROFILES, netDim } from './hw/dim.js'
// Hardware.
export { HwQueue, NicHw, type NicHwParams, type RxChecksum, type WirePort } from './hw/nic-hw.js'
export { netdevRssKeyFill, RSS_SPEC_KEY, Toeplitz } from './hw/toeplitz.js'
export {
  devSetThreaded,
  napiBusyLoop,
  napiComplete,
  napiCompleteDone,
  napiDisable,
  napiEnable,
  napiPoll,
  netifNapiAdd,
  netifNapiDel,
} from './napi.js'
export { napiFreeFrags, napiGetFrags, napiGroFrags } from './napi-frags.js'
// NAPI and GRO.
export type { NapiPoll } from './napi-struct.js'
export {
  BUSY_POLL_BUDGET,
  NAPI_POLL_WEIGHT,
  NAPIF_STATE_MISSED,
  NAPIF_STATE_SCHED,
  NapiStruct,
  napiSchedule,
  napiSchedulePrep,
  napiScheduleUnchecked,
} from './napi-struct.js'
// Devices.
export * from './net-device.js'
export type {
  NetDevCosts,
  NetDevSlots,
  NetDevSysctl,
  NetDevsParams,
  NetdevEvent,
  NetdevNotifier,
} from './net-devs.js'
export { NetDevs, netDevInit } from './net-devs.js'
export { netRxAction, netTxAction, processBacklog } from './net-rx-action.js'
export {
  NetdevQueue,
  netdevTxCompletedQueue,
  netdevTxResetQueue,
  netdevTxSentQueue,
  netifTxStopQueue,
  netifTxWakeQueue,
} from './netdev-queue.js'
export type { PacketOffload } from './offload.js'
export { devAddOffload, findOffload, GRO_IN_PROGRESS } from './offload.js'
export type { PacketType } from './packet-type.js'
export {
  devAddPack,
  devRemovePack,
  ETH_P_802_2,
  ETH_P_802_3,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_ALL,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  ETH_P_LOOPBACK,
  ptypeInNs,
} from './packet-type.js'
export { devSetAllmulti, devSetPromiscuity } from './promiscuity.js'
export { Qdisc } from './qdisc.js'
export {
  netifReceiveSkb,
  netifReceiveSkbList,
  RX_HANDLER_ANOTHER,
  RX_HANDLER_CONSUMED,
  RX_HANDLER_EXACT,
  RX_HANDLER_PASS,
} from './receive.js'
export { netdevSetRpsMap } from './rps.js'
export { skbPpCowData } from './skb-pp-cow.js'
// Softirqs.
export type { SoftirqAction } from './softirq.js'
export {
  doSoftirq,
  irqEnter,
  irqExit,
  localBhDisable,
  localBhEnable,
  NET_RX_SOFTIRQ,
  NET_TX_SOFTIRQ,
  openSoftirq,
  raiseSoftirq,
  TASKLET_SOFTIRQ,
} from './softirq.js'
export { SoftnetData, softnetSeqShow } from './softnet.js'
export { validateXmitSkb, validateXmitSkbList } from './validate-xmit.js'
export {
  type DeviceFaults,
  deviceFaults,
  deviceTracer,
  wrapStartXmit,
  type XmitTrace,
} from './wire/device-wrappers.js'
// Cables, captures and faults.
export { hubConnect } from './wire/hub.js'
export { Link, type LinkParams, linkConnect, WIRE_OVERHEAD_BYTES } from './wire/link.js'
export { devicePcap, LINKTYPE_ETHERNET, LINKTYPE_RAW, PcapWriter, pcapPort } from './wire/pcap.js'
// XDP.
export * from './xdp.js'
export * from './xdp-adjust.js'
export { xdpBuffAddFrag, xdpNrFrags } from './xdp-frags.js'
export { bpfProgTestRunXdp, type XdpTestRunParams } from './xdp-test-run.js'
// Transmit.
export { devDirectXmit, devQueueXmit, netdevCorePickTx } from './xmit.js'
export type { XskPoolSlot } from './xsk-pool-slot.js'
