/**
 * What `ip`, `ethtool` and /dev/net/tun do: namespaces and devices by name, their addresses and neighbours,
 * TUN/TAP queues as files, XDP programs.
 */
import { assert, ERRNO } from '@netmem/base'
import { type Device, deviceCreate, deviceRemove } from '@netmem/dma'
import { inetAddrAdd, inetDevDown, inetDevUp, neighAdd } from '@netmem/inet'
import {
  bpfProgTestRunXdp,
  devClose,
  devOpen,
  devSetMtu,
  e1000Create,
  e1000eCreate,
  ethHwAddrSet,
  loopbackCreate,
  NETIF_F_ALL_TSO,
  NETIF_F_GRO,
  NETIF_F_GSO,
  NETIF_F_HW_CSUM,
  NETIF_F_RXCSUM,
  NETIF_F_SG,
  type NetDevice,
  netdevSetFeature,
  netdevUnregister,
  vethCreate,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PASS,
  XDP_TX,
  type XdpProgram,
} from '@netmem/virtual-nic'
import { ipv4Word } from './ipv4.js'
import type { Kernel } from './kernel.js'
import { Net } from './net.js'
import { packetInject } from './packet-inject.js'
import type { Process } from './process.js'
import { TunFiles } from './tun-files.js'

/** What `ip link set` and `ip addr add` would set of a device. */
export interface LinkConfig {
  readonly mac?: string
  readonly mtu?: number
  readonly ip?: string
  /** Bits of the network in `ip`. */
  readonly prefix?: number
  readonly txQueueLen?: number
}

/** One end of a veth pair to be made. */
export interface VethEnd {
  readonly net: Net
  readonly name: string
}

/** A PCI network card to be plugged in. */
export interface PciNic {
  readonly net: Net
  readonly name: string
  readonly driver: 'e1000' | 'e1000e'
  /** Where it sits, which is how tracepoints call it: `0000:00:03.0`. */
  readonly slot: string
}

const FEATURES: Readonly<Record<string, number>> = {
  gro: NETIF_F_GRO,
  gso: NETIF_F_GSO,
  tso: NETIF_F_ALL_TSO,
  sg: NETIF_F_SG,
  'tx-checksum': NETIF_F_HW_CSUM,
  tx: NETIF_F_HW_CSUM,
  'rx-checksum': NETIF_F_RXCSUM,
  rx: NETIF_F_RXCSUM,
}

/** An XDP program that returns one verdict: `pass`, `drop`, `tx` or `aborted`. */
export interface XdpAttachment {
  readonly action: string
  /** In the driver, instead of in the generic path behind it. */
  readonly native: boolean
  /** Loaded with BPF_F_XDP_HAS_FRAGS. */
  readonly frags: boolean
}

const CONGESTION_CONTROL = 'net.ipv4.tcp_congestion_control'

const XDP_VERDICTS: Readonly<Record<string, number>> = {
  aborted: XDP_ABORTED,
  drop: XDP_DROP,
  pass: XDP_PASS,
  tx: XDP_TX,
}

export class Links {
  /** TUN and TAP queues. */
  readonly tun: TunFiles
  /** What the DMA layer knows of a card, by its interface. */
  private readonly pciDevices = new Map<NetDevice, Device>()

  constructor(private readonly kernel: Kernel) {
    this.tun = new TunFiles(kernel)
  }

  /** Models `unshare(CLONE_NEWNET)`: a namespace with a loopback device that is down. */
  netCreate(): Net {
    const { kernel } = this
    const ns = kernel.nets.length === 0 ? kernel.socks.initNet : kernel.socks.netCreate()
    // Models `tcp_sk_init`: a new namespace starts with the initial one's buffer sizes and congestion control.
    const { initNet } = kernel.socks
    if (ns !== initNet) {
      ns.tcpRmem.set(initNet.tcpRmem)
      ns.tcpWmem.set(initNet.tcpWmem)
      ns.sysctls.setText(CONGESTION_CONTROL, initNet.sysctls.text(CONGESTION_CONTROL))
    }
    const lo = loopbackCreate(kernel.devs, ns.id)
    assert(typeof lo !== 'number', 'a namespace has one loopback device')
    const net = new Net(ns, lo)
    kernel.nets.push(net)
    return net
  }

  /** Models `ip link set lo up`. */
  loUp(net: Net): void {
    this.setUp(net.lo, true)
  }

  /** @returns the device. @throws RangeError when the namespace has none of that name. */
  device(net: Net, name: string): NetDevice {
    const dev = net.devices.get(name)
    if (dev === undefined)
      throw new RangeError(`there is no device "${name}"; there are ${[...net.devices.keys()].join(', ')}`)
    return dev
  }

  netOf(dev: NetDevice): Net {
    return this.kernel.nets[dev.ns]!
  }

  configure(dev: NetDevice, config: LinkConfig): void {
    if (config.mac !== undefined) ethHwAddrSet(dev, config.mac)
    if (config.mtu !== undefined) this.setMtu(dev, config.mtu)
    if (config.txQueueLen !== undefined) dev.txQueueLen = config.txQueueLen
    if (config.ip !== undefined) inetAddrAdd(this.kernel.inet, dev, ipv4Word(config.ip), config.prefix ?? 32)
  }

  /** Models `ip neigh replace ... nud permanent`. */
  neighbour(dev: NetDevice, ip: string, mac: string): void {
    const bytes = mac.split(':').map((part) => Number.parseInt(part, 16))
    const macLo = (bytes[2]! << 24) | (bytes[3]! << 16) | (bytes[4]! << 8) | bytes[5]!
    neighAdd(this.kernel.inet, dev, ipv4Word(ip), null, (bytes[0]! << 8) | bytes[1]!, macLo)
  }

  /** Models `ip link set up` and `down`. @returns 0 or a negative errno. */
  setUp(dev: NetDevice, up: boolean): number {
    const cpu = this.kernel.cpus[0]!
    if (!up) {
      devClose(dev, cpu)
      return 0
    }
    const err = devOpen(dev, cpu)
    if (err === 0) inetDevUp(this.kernel.inet, dev)
    return err
  }

  /** Models SIOCSIFMTU. */
  setMtu(dev: NetDevice, mtu: number): number {
    return devSetMtu(dev, mtu, this.kernel.cpus[0]!)
  }

  /** Models an ethtool switch by its name. @returns 0, -EINVAL for an unknown name, or what the device says. */
  setFeature(dev: NetDevice, name: string, on: boolean): number {
    const bits = FEATURES[name]
    if (bits === undefined) return -ERRNO.EINVAL
    return netdevSetFeature(dev, bits, on, this.kernel.cpus[0]!)
  }

  /** Models `ip link add a type veth peer name b`. @returns 0, or a negative errno when a name is taken. */
  vethCreate(a: VethEnd, b: VethEnd): number {
    const { devs, cpus } = this.kernel
    const ends = vethCreate(devs, { name: a.name, ns: a.net.id }, { name: b.name, ns: b.net.id }, cpus[0]!)
    if (typeof ends === 'number') return ends
    a.net.devices.set(a.name, ends[0])
    b.net.devices.set(b.name, ends[1])
    return 0
  }

  /** Models a PCI card being plugged in and its driver's probe. @returns the device, down; or -errno. */
  nicProbe(nic: PciNic): NetDevice | number {
    const { dma, devs, cpus } = this.kernel
    const device = deviceCreate(dma, { name: nic.slot, driver: nic.driver })
    const create = nic.driver === 'e1000' ? e1000Create : e1000eCreate
    const dev = create(devs, { name: nic.name, ns: nic.net.id, device })
    if (typeof dev === 'number') {
      deviceRemove(cpus[0]!, device)
      return dev
    }
    this.pciDevices.set(dev, device)
    nic.net.devices.set(nic.name, dev)
    return dev
  }

  /** @returns the PCI device under an interface, undefined for interfaces of software. */
  pciDevice(dev: NetDevice): Device | undefined {
    return this.pciDevices.get(dev)
  }

  /** Sends a frame out of a device as a raw packet socket would. @returns its length or a negative errno. */
  inject(process: Process, dev: NetDevice, frame: Uint8Array): number {
    return packetInject(process, dev, frame)
  }

  /** Models BPF_LINK_CREATE of an XDP program. @returns 0 or a negative errno. */
  xdpAttach(dev: NetDevice, params: XdpAttachment): number {
    const verdict = XDP_VERDICTS[params.action]
    if (verdict === undefined) return -ERRNO.EINVAL
    return this.xdpAttachProgram(
      dev,
      { name: params.action, hasFrags: params.frags, run: () => verdict },
      params.native,
    )
  }

  /** The same for any program. */
  xdpAttachProgram(dev: NetDevice, program: XdpProgram, native: boolean): number {
    if (dev.xdpProg !== null || dev.xdpNative !== null) return -ERRNO.EBUSY
    return this.xdpInstall(dev, program, native)
  }

  /** Attaches a program, or with null detaches it. */
  xdpInstall(dev: NetDevice, program: XdpProgram | null, native: boolean): number {
    if (!native) {
      dev.xdpProg = program
      return 0
    }
    if (dev.ops.xdpSet === undefined) return -ERRNO.ENOTSUP
    const err = dev.ops.xdpSet(dev, program, this.kernel.cpus[0]!)
    if (err === 0) dev.xdpNative = program
    return err
  }

  /** Models closing the XDP link: whichever mode it has. */
  xdpDetach(dev: NetDevice): number {
    return this.xdpInstall(dev, null, dev.xdpNative !== null)
  }

  /** Models `cleanup_net`: a namespace that nobody is in any more loses its devices, loopback last. */
  netDestroy(net: Net): void {
    for (const dev of [...net.devices.values()].reverse()) {
      // The other end of a veth pair goes with this one.
      if (net.devices.get(dev.name) === dev) this.remove(dev)
    }
  }

  /** Models BPF_PROG_TEST_RUN with live frames. @returns 0 or a negative errno. */
  xdpTestRun(
    process: Process,
    dev: NetDevice,
    action: string,
    run: { len: number; repeat: number; batch: number },
  ): number {
    const verdict = XDP_VERDICTS[action]
    if (verdict === undefined) return -ERRNO.EINVAL
    const prog: XdpProgram = { name: action, hasFrags: false, run: () => verdict }
    const err = bpfProgTestRunXdp(this.kernel.devs, process.cpu, { prog, dev, ...run })
    this.kernel.syscallExit(process.cpu)
    return err
  }

  /** Models `ip link del`. */
  remove(dev: NetDevice): void {
    const { kernel } = this
    if (dev.xdpProg !== null || dev.xdpNative !== null) this.xdpDetach(dev)
    inetDevDown(kernel.inet, dev)
    netdevUnregister(kernel.devs, dev, kernel.cpus[0]!)
    this.netOf(dev).devices.delete(dev.name)
    const device = this.pciDevices.get(dev)
    if (device === undefined) return
    deviceRemove(kernel.cpus[0]!, device)
    this.pciDevices.delete(dev)
  }
}
