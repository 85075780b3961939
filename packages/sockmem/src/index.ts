export * from './absent.js'
export * from './backlog.js'
export { bpfCheckClassic } from './bpf-check.js'
export { bpfConvertedLength } from './bpf-length.js'
export { BPF_MAXINSNS } from './bpf-numbers.js'
export { bpfRunClassic } from './classic-bpf.js'
export * from './constants.js'
export * from './datagram.js'
export * from './error-queue.js'
export { sockName } from './holders.js'
export * from './mem-raise.js'
export * from './mem-schedule.js'
export {
  MEMCG_CHARGE_BATCH,
  MemCgroup,
  type MemcgEvents,
  Memcgs,
  memCgroupChargeKmem,
  memCgroupChargeSkmem,
  memCgroupSkAccept,
  memCgroupSkAlloc,
  memCgroupSkFree,
  memCgroupSocketsEnabled,
  memCgroupStatSock,
  memCgroupUncharge,
  memCgroupUnderSocketPressure,
} from './memcg.js'
export * from './meminfo.js'
export * from './memory-allocated.js'
export { MIB_GROUPS, MIB_NAMES, mibIndex, mibIndexOrNone } from './mib.js'
export { type Cmsg, Msg, putCmsg, SockAddr, SockExtendedErr } from './msg.js'
export { NetNs } from './net-ns.js'
export { sockKfreeS, sockKmalloc } from './optmem.js'
export {
  skbOrphanPartial,
  skbSetOwnerR,
  skbSetOwnerSk,
  skbSetOwnerW,
  sockEfree,
  sockOfree,
  sockRfree,
  sockRmemFree,
  sockWfree,
} from './owner.js'
export {
  PAGE_COUNTER_MAX,
  PageCounter,
  pageCounterCharge,
  pageCounterTryCharge,
  pageCounterUncharge,
} from './page-counter.js'
export { sockPageFragRefill } from './page-frag-refill.js'
export * from './pressure.js'
export {
  PressureFlag,
  Proto,
  ProtoCounter,
  ProtoMemory,
  type ProtoParams,
  protoMemoryAllocated,
  protoMemoryPressure,
  protoRegister,
} from './proto.js'
export { GRACE_PERIOD_NS, Rcu, type RcuCallback } from './rcu.js'
export { queueRcvDropReason, sockQueueRcvSkb, sockQueueRcvSkbUnfiltered, sockSkbSetDropcount } from './receive.js'
export { sockReleaseReservedMemory, sockReserveMemory } from './reserve.js'
export {
  SkFilter,
  skAttachFilter,
  skDetachFilter,
  skFilter,
  skFilterTrimCap,
  skFilterUncharge,
  skProgCreate,
  skRunFilter,
} from './sk-filter.js'
export {
  Sock,
  type SockCallback,
  SockV6,
  sockError,
  sockFlag,
  sockResetFlag,
  sockSetFlag,
  sockValboolFlag,
} from './sock.js'
export {
  skAlloc,
  skCloneLock,
  skDestruct,
  skFree,
  sockAllocInode,
  sockAllocSocket,
  sockFreeInode,
  sockGraft,
  sockHold,
  sockInitData,
  sockOrphan,
  sockPut,
} from './sock-alloc.js'
export { SockEnv, type SockEnvParams, sockEnvCreate, type WakeSlot } from './sock-env.js'
export type { NetProtoFamily, SkbSplicer, SockOps } from './sock-ops.js'
export {
  skRmemAllocGet,
  skWmemAllocGet,
  sockAllocSendPskb,
  sockAllocSendSkb,
  sockOmalloc,
  sockWmalloc,
} from './sock-send.js'
export { doSockGetsockopt, doSockSetsockopt, sockCreate, sockRelease, sockSocketpair } from './socket.js'
export { sockSetRcvbuf, sockSetsockopt } from './sockopt.js'
export { sockGetsockopt } from './sockopt-get.js'
export { OptVal, SO, SOL_SOCKET, type SockoptName } from './sockopt-numbers.js'
export { skStreamAllocSkb } from './stream-alloc.js'
export * from './stream-space.js'
export { Sysctls } from './sysctls.js'
export { capable, Task } from './task.js'
export {
  type SharedProtoState,
  type StreamUnsent,
  sharedProtoState,
  tcpProtCreate,
  tcpStreamMemoryFree,
} from './tcp-prot.js'
export { skUnusedReservedMem } from './unused-reserved.js'
export { currentUser, UserStruct } from './user.js'
export * from './wakeup.js'
