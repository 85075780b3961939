export { type TlsCryptoProvider, tlsCryptoFromNode } from '@netmem/zerocopy'
// The machine.
export { type BootParams, bootKernel } from './boot.js'
// Files and system calls: numbers and negative errnos.
export { FdTable, type FileOperations, fput, O_NONBLOCK, OpenFile } from './file.js'
export { Kernel } from './kernel.js'
// The same calls for those who prefer exceptions.
export { Calls, KernelError, orThrow } from './kernel-error.js'
export type { LinkConfig, PciNic, VethEnd, XdpAttachment } from './links.js'
export { type Mapping, sysMmap, sysMunmap } from './mmap.js'
export { Net } from './net.js'
export { buildFrame, type FrameTarget } from './player/frames.js'
// Traces and scenarios.
export { type PlayOptions, playTrace, type TraceMismatch, type TraceReport } from './player/play-trace.js'
export { Process } from './process.js'
// /proc and /sys.
export { cgroupPath } from './procfs/cgroup.js'
export { procFiles, procRead, sysctlName, sysctlPath, sysFiles } from './procfs/files.js'
export { modelHost, type ProcHost } from './procfs/host.js'
export { type FileWriter, ProcFs } from './procfs/procfs.js'
export {
  monitorNetworkMemory,
  TUNE_NETWORK_MEMORY,
  type TuneResult,
  tuneNetworkMemory,
} from './procfs/scripts.js'
export { ssSkmem } from './procfs/ss.js'
export { sysSendfile, sysSplice, sysTee, sysVmsplice } from './splice-calls.js'
export {
  type MsgParams,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysFcntl,
  sysGetname,
  sysGetsockopt,
  sysIoctl,
  sysListen,
  sysLseek,
  sysPoll,
  sysRead,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysShutdown,
  sysSocket,
  sysSocketpair,
  sysWrite,
} from './syscalls.js'
// /proc/sys.
export { bootLimits } from './sysctl/boot-limits.js'
export { SysctlFiles } from './sysctl/files.js'
export {
  type ParseTraceOptions,
  parseTrace,
  type TraceDocument,
  TraceFormatError,
  type TraceStep,
} from './trace/document.js'
export type { Json, JsonObject } from './trace/json.js'
export type { TapParams } from './tun-files.js'
// Names as users type them.
export {
  flagBits,
  IP_OPTIONS,
  MSG_FLAGS,
  optionByName,
  PACKET_OPTIONS,
  SPLICE_FLAGS,
  TCP_OPTIONS,
  UDP_OPTIONS,
} from './uapi.js'
export { sysFileSize, sysMemfd, sysOpenDevice, sysOpenFile, sysOpenInode, sysPipe } from './vfs-file.js'
