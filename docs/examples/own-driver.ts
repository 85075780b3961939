import { type Cpu, kernelProfile } from '@netmem/base'
import { bootKernel } from '@netmem/kernel-model'
import { consumeSkb, type SkBuff } from '@netmem/skbuff'
import {
  devOpen,
  devStatistics,
  NETDEV_TX_OK,
  type NetDevice,
  type NetDeviceOps,
  netdevRegister,
  TX_BYTES,
  TX_PACKETS,
} from '@netmem/virtual-nic'

// A driver is an object of functions. This one counts what it is given and throws it away, as the kernel's dummy does.
const sinkOps: NetDeviceOps = {
  startXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
    dev.stats[TX_PACKETS]! += 1
    dev.stats[TX_BYTES]! += skb.len
    // Whoever takes a packet gives it back: consume_skb where all went well, kfree_skb with a reason where not.
    consumeSkb(cpu, skb, 'sink_xmit')
    return NETDEV_TX_OK
  },
}

const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), cpus: 1 })
const sink = netdevRegister(kernel.devs, { name: 'sink0', ops: sinkOps })
if (typeof sink === 'number') throw new Error(`sink0: ${sink}`)
kernel.initNet.devices.set('sink0', sink)
if (devOpen(sink, kernel.cpus[0]!) !== 0) throw new Error('sink0 did not come up')

// A frame goes out of it as from a raw socket.
const frame = new Uint8Array(60)
if (kernel.links.inject(kernel.spawn(), sink, frame) !== 60) throw new Error('the frame was not taken')
const { tx_packets, tx_bytes } = devStatistics(sink)
if (tx_packets !== 1 || tx_bytes !== 60) throw new Error(`${tx_packets} packets, ${tx_bytes} bytes`)
