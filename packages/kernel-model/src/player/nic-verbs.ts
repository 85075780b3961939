/** Verbs of the traces with real network cards: frames from one to the other, and the level of the bounce pool. */
import { swiotlbUsage } from '@netmem/dma'
import { consumeSkb, kfreeSkb, type SkBuff } from '@netmem/skbuff'
import { devAddPack, devRemovePack, type PacketType } from '@netmem/virtual-nic'
import { type Answer, ringErrnoName } from './answer.js'
import type { VerbHandlers } from './handlers.js'
import { NIC_ETHERTYPE, type NicPair, nicPair } from './nic-machine.js'
import type { PlayerWorld } from './world.js'

const DEFAULT_GAP_MS = 30
const LAST_WAIT_MS = 100

/** The packet socket on the second card: frames wait in its queue until they are read, and a full queue drops. */
class PacketReader implements PacketType {
  readonly type = NIC_ETHERTYPE
  readonly dev
  readonly queue: SkBuff[] = []
  private queuedBytes = 0
  private readonly rcvbuf: number

  constructor(world: PlayerWorld, pair: NicPair) {
    this.dev = pair.second
    this.rcvbuf = Number(world.kernel.sysctlRead(world.process.net, 'net.core.rmem_default') ?? 212_992)
  }

  func(...[cpu, skb]: Parameters<PacketType['func']>): number {
    if (this.queuedBytes >= this.rcvbuf) {
      kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'packet_rcv')
      return 0
    }
    this.queuedBytes += skb.truesize
    this.queue.push(skb)
    return 0
  }
}

function bounceAnswer(pair: NicPair): Answer {
  const answer: Answer = {}
  const [tx, rx] = pair.events
  if (tx.bounced.length > 0) answer.tx_bounced = tx.bounced
  if (rx.bounced.length > 0) answer.rx_bounced = rx.bounced
  return answer
}

function iommuAnswer(pair: NicPair): Answer {
  const [tx, rx] = pair.events
  return {
    maps: tx.maps + rx.maps,
    unmaps: tx.unmaps + rx.unmaps,
    iotlb_invalidations: pair.newInvalidations(),
  }
}

export const nicHandlers: VerbHandlers = {
  nic_send: (world, args) => {
    const { kernel, process } = world
    const pair = nicPair(world)
    const frame = pair.frame(args.len as number)
    const gapNs = ((args.gap_ms as number | undefined) ?? DEFAULT_GAP_MS) * 1e6
    const reader = new PacketReader(world, pair)
    pair.clear()
    devAddPack(kernel.devs, reader)
    let err = 0
    for (let i = 0; i < (args.count as number) && err >= 0; i++) {
      err = kernel.links.inject(process, pair.first, frame)
      kernel.passTime(gapNs)
    }
    kernel.passTime(LAST_WAIT_MS * 1e6)
    devRemovePack(kernel.devs, reader)
    for (const skb of reader.queue) consumeSkb(process.cpu, skb, 'packet_recvmsg')
    if (err < 0) return { errno: ringErrnoName(err) }
    const events = kernel.dma.iommu === null ? bounceAnswer(pair) : iommuAnswer(pair)
    return { received: reader.queue.length, ...events }
  },

  io_tlb: ({ kernel }) => {
    const usage = swiotlbUsage(kernel.dma)
    return { used: usage.io_tlb_used, nslabs: usage.io_tlb_nslabs }
  },
}
