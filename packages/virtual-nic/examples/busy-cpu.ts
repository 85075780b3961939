import { Cpu, EventQueue, kernelProfile, Trace } from '@netmem/base'
import { deviceCreate, dmaInit } from '@netmem/dma'
import { memoryCreate } from '@netmem/memory'
import { pagePoolsInit } from '@netmem/page-pool'
import { consumeSkb, type SkBuff, skbInit } from '@netmem/skbuff'
import {
  devAddPack,
  devClose,
  devicePcap,
  devOpen,
  devStatistics,
  ETH_P_IP,
  localBhDisable,
  localBhEnable,
  netDevInit,
  PcapWriter,
  type PpNic,
  ppNicCreate,
} from '@netmem/virtual-nic'

const profile = kernelProfile('linux-6.18-x86_64')
const trace = new Trace()
const clock = new EventQueue()
const mem = memoryCreate({ profile, bytes: 64 << 20, cpus: 1, trace })
const cpus = [new Cpu(0, 0)]
const cpu = cpus[0]!
const pagePools = pagePoolsInit({ mem, profile, trace, events: clock, cpus })
const skbs = skbInit({ mem, cpus: 1, trace, profile, pagePools })
const dma = dmaInit({ mem, profile, trace, cpus, events: clock })
const env = netDevInit({ mem, skbs, pagePools, cpus, clock, trace, profile })

// A card with eight receive descriptors. Its driver posts pages of a page pool when it is brought up.
const device = deviceCreate(dma, { name: '0000:00:03.0' })
const eth0 = ppNicCreate(env, { name: 'eth0', device, rxRing: 8 })
if (typeof eth0 === 'number' || devOpen(eth0, cpu) !== 0) throw new Error('eth0')
const card = (eth0.priv as PpNic).hw
const capture = new PcapWriter()
devicePcap(eth0, capture)

const received: SkBuff[] = []
devAddPack(env, {
  type: ETH_P_IP,
  func: (_cpu, skb) => {
    received.push(skb)
    return 0
  },
})

// An IPv4 header with nothing behind it, in an Ethernet frame.
const frame = new Uint8Array(60)
frame.set([0x08, 0x00, 0x45, 0, 0, 20], 12)

// The CPU is busy: the card interrupts, but nobody polls. Seven frames fit, as one descriptor always stays free.
localBhDisable(cpu)
for (let i = 0; i < 10; i++) card.receive(frame, 0, frame.length)
if (received.some(() => true)) throw new Error('polled')
localBhEnable(env, cpu)

// Enabling bottom halves ran the receive softirq, whose poll delivered what the ring had held.
const { rx_packets, rx_missed_errors } = devStatistics(eth0)
if (received.length !== 7 || rx_packets !== 7 || rx_missed_errors !== 3) throw new Error(`${rx_packets}`)
if (capture.frames !== 7) throw new Error(`${capture.frames}`)

// Each packet is the page that the card wrote to, so 46 bytes of payload hold 4 KiB and a descriptor.
if (received.some((skb) => skb.len !== 46 || skb.truesize !== 4096 + 256)) throw new Error('truesize')
for (const skb of received) consumeSkb(cpu, skb, 'ip_rcv')
devClose(eth0, cpu)
if (pagePools.pools.some((pool) => pool !== null)) throw new Error('a page is still out')
