/**
 * Boots a machine: memory first, then what stands on it, in the order of the layers. Nothing is ambient: two
 * kernels share nothing, and the same parameters give the same kernel.
 */
import { Cpu, EventQueue, type KernelProfile, Trace } from '@netmem/base'
import { type DmaParams, dmaInit } from '@netmem/dma'
import { inetInit } from '@netmem/inet'
import { memoryCreate, nrFreeBufferPages, totalramPages } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { skbInit } from '@netmem/skbuff'
import { Sysctls, sockEnvCreate } from '@netmem/sockmem'
import { netDevInit } from '@netmem/virtual-nic'
import { packetInit, type TlsCryptoProvider, vfsInit, xskInit } from '@netmem/zerocopy'
import { netDevSysctlApply } from './device-sysctl.js'
import { Kernel } from './kernel.js'
import { bootLimits } from './sysctl/boot-limits.js'
import { SysctlFiles } from './sysctl/files.js'
import { vmSysctlBoot } from './sysctl/vm.js'

export interface BootParams {
  readonly profile: KernelProfile
  /** CPUs, numbered from 0 and spread over the nodes. Default: the profile's. */
  readonly cpus?: number
  /** NUMA nodes. Default 1. */
  readonly nodes?: number
  /** Physical memory in bytes: whole pages, up to 4 GiB. Default 256 MiB. */
  readonly memoryBytes?: number
  /** Seeds what a kernel draws at random: ports, sequence numbers, hashes. Default 1. */
  readonly seed?: number
  /** Values of /proc/sys set right after boot, text as it would be written. */
  readonly sysctl?: Readonly<Record<string, string>>
  /**
   * Where `tcp_mem` and its like come from: `'profile'`, the machine that was recorded (the default), or
   * `'memory'`, worked out from `memoryBytes` as at boot.
   */
  readonly limits?: 'profile' | 'memory'
  /** What a system call takes, in virtual nanoseconds. Default 1000. */
  readonly syscallNs?: number
  /** What stands between devices and memory: `swiotlb=`, `intel_iommu=`, CONFIG_DMA_API_DEBUG. Default: nothing. */
  readonly dma?: Pick<DmaParams, 'swiotlb' | 'iommu' | 'debug'>
  /**
   * The ciphers of kTLS: `tlsCryptoFromNode(crypto)` of @netmem/zerocopy where there is Node's `crypto` module. Default:
   * none, and keys are refused as on a kernel without them.
   */
  readonly crypto?: TlsCryptoProvider
  /** Tracepoints to use; a new set if absent. Subscribe before booting to see the boot. */
  readonly trace?: Trace
}

const DEFAULT_MEMORY_BYTES = 256 << 20
const DEFAULT_SYSCALL_NS = 1000

/** @throws RangeError when a parameter makes no sense, or a sysctl does not exist or refuses its value. */
export function bootKernel(params: BootParams): Kernel {
  const { profile } = params
  const nodes = params.nodes ?? 1
  const seed = params.seed ?? 1
  const cpus = Array.from({ length: params.cpus ?? profile.nr_cpus }, (_, id) => new Cpu(id, id % nodes))
  const trace = params.trace ?? new Trace()
  const clock = new EventQueue()
  const bytes = params.memoryBytes ?? DEFAULT_MEMORY_BYTES
  const mem = memoryCreate({ profile, bytes, cpus: cpus.length, nodes, trace })
  const dma = dmaInit({ mem, profile, trace, cpus, events: clock, ...params.dma })
  const sysctls = new Sysctls(profile)
  const sysctlFiles = new SysctlFiles(profile)
  sysctlFiles.prime(sysctls)
  const deferMax = sysctls.numbers('net.core.skb_defer_max', [64])
  const maxFrags = sysctls.numbers('net.core.max_skb_frags', [profile.MAX_SKB_FRAGS])
  const pagePools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
  const skbs = skbInit({
    mem,
    pagePools,
    cpus: cpus.length,
    nodes,
    trace,
    profile,
    sysctl: { skbDeferMax: () => deferMax[0]!, maxSkbFrags: () => maxFrags[0]! },
  })
  const devs = netDevInit({ mem, skbs, pagePools, cpus, clock, trace, profile, seed })
  netDevSysctlApply(devs, sysctls)
  vmSysctlBoot(mem, sysctls)
  const socks = sockEnvCreate({ mem, skbs, cpus, clock, trace, profile, sysctls })
  const inet = inetInit({ socks, devs, seed, ...(params.crypto === undefined ? {} : { crypto: params.crypto }) })
  const packet = packetInit({ socks, devs, seed })
  const xsk = xskInit(socks, devs)
  const vfs = vfsInit({ mem, cpu: cpus[0]!, profile, trace, sysctls, seed })
  const kernel = new Kernel({
    profile,
    cpus,
    clock,
    trace,
    mem,
    dma,
    skbs,
    devs,
    socks,
    inet,
    packet,
    xsk,
    vfs,
    sysctlFiles,
    seed,
    syscallNs: params.syscallNs ?? DEFAULT_SYSCALL_NS,
  })
  const net = kernel.links.netCreate()
  if (params.limits === 'memory')
    setSysctls(kernel, bootLimits(nrFreeBufferPages(mem), maxReadShare(profile), totalramPages(mem)))
  setSysctls(kernel, params.sysctl ?? {})
  kernel.links.loUp(net)
  return kernel
}

/** The profile's `tcp_rmem[2]` is its kernel's bound, as a large machine reaches it. */
const maxReadShare = (profile: KernelProfile): number =>
  Number((profile.sysctl['net.ipv4.tcp_rmem'] ?? '4096 131072 6291456').split(/\s+/)[2])

function setSysctls(kernel: Kernel, values: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(values)) {
    const err = kernel.sysctlWrite(kernel.initNet, name, text)
    if (err < 0)
      throw new RangeError(`sysctl ${name} = "${text}": no such name on this kernel, or a value that it refuses`)
  }
}
