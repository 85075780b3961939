/**
 * How many receive descriptors a network card needs: frames arrive at a rate while its processor is away for a
 * time, and the smallest ring that misses none is found by trying.
 */
import { assert } from '@netmem/base'
import { DMA_BIT_MASK, deviceCreate, dmaSetMaskAndCoherent } from '@netmem/dma'
import { bootKernel, type Kernel } from '@netmem/kernel-model'
import { nrFreePages, nrPcpPages } from '@netmem/memory'
import { devOpen, devSetMtu, type PpNic, ppNicCreate } from '@netmem/virtual-nic'
import { InputError } from '../errors.js'
import { bytesText, countText, durationText } from '../report/format.js'
import type { SizeAnswer } from './answer.js'
import { framesInStall, framesPerSecond, type StallQuestion, stallWords, WIRE_EXTRA } from './frames-in-stall.js'

export interface NicRingQuestion extends StallQuestion {
  readonly queues: number
}

const LEAST_RING = 64
const MOST_RING = 16384
const PAGE_BYTES = 4096
const NEVER = 0x3fffffff

interface Ring {
  readonly kernel: Kernel
  readonly nic: PpNic
  /** What the ring's buffers take, in bytes. */
  readonly bytes: number
}

const freePages = ({ mem }: Kernel): number => nrFreePages(mem) + nrPcpPages(mem)

function ringOf({ profile, mtu }: NicRingQuestion, descriptors: number): Ring {
  const kernel = bootKernel({ profile, cpus: 1, memoryBytes: 2 ** 30 })
  const [cpu] = kernel.cpus as [Kernel['cpus'][number]]
  const device = deviceCreate(kernel.dma, { name: '0000:00:03.0', driver: 'pp_nic' })
  dmaSetMaskAndCoherent(device, DMA_BIT_MASK(64))
  const before = freePages(kernel)
  const dev = ppNicCreate(kernel.devs, {
    name: 'eth0',
    device,
    rxRing: descriptors,
    maxFrameBytes: mtu + 18,
    rxChecksum: 'trust',
    // The processor is away: no interrupt gets through to it.
    rxUsecs: NEVER,
    rxFrames: NEVER,
  })
  assert(typeof dev !== 'number', 'the network card could not be made')
  if (devSetMtu(dev, mtu, cpu) !== 0 || devOpen(dev, cpu) !== 0)
    throw new InputError(`--mtu ${mtu}: the card does not come up with it`)
  return { kernel, nic: dev.priv as PpNic, bytes: (before - freePages(kernel)) * PAGE_BYTES }
}

/** @returns frames that found no descriptor when `frames` came at once. */
function missed({ nic }: Ring, frames: number, frameBytes: number): number {
  const frame = new Uint8Array(frameBytes)
  for (let i = 0; i < frames; i++) nic.hw.receive(frame, 0, frameBytes)
  return nic.queues[0]!.hw.stats[0]!
}

export function sizeNicRing(question: NicRingQuestion): SizeAnswer {
  const { profile, frameBytes, stallNs, queues, mtu } = question
  const frames = framesInStall(question)
  if (frames > 4 * MOST_RING)
    throw new InputError(
      `${countText(frames)} frames arrive in ${durationText(stallNs)}: no ring holds them; expected a shorter stall, or the rate of one queue`,
    )
  let descriptors = LEAST_RING
  let ring = ringOf(question, descriptors)
  let lost = missed(ring, frames, frameBytes)
  while (lost > 0 && descriptors < MOST_RING) {
    descriptors *= 2
    ring = ringOf(question, descriptors)
    lost = missed(ring, frames, frameBytes)
  }
  return {
    schema: 'netmem-size/1',
    what: 'nic-ring',
    kernel: profile.name,
    question: stallWords(question, 'the processor of a queue'),
    assumptions: [
      `${countText(framesPerSecond(question))} frames a second (each takes ${WIRE_EXTRA} bytes more on the wire), so ${countText(frames)} while nobody polls`,
      `a page-pool driver at an MTU of ${mtu}: one buffer per descriptor and per ${bytesText(PAGE_BYTES)}`,
      'the processor is quick enough on average; otherwise no ring helps',
    ],
    measured: [
      { name: 'frames in the stall', value: frames, unit: 'frames', about: '' },
      {
        name: 'missed',
        value: lost,
        unit: 'frames',
        about: `with ${descriptors} descriptors, found by trying powers of two`,
      },
      {
        name: 'memory of a ring',
        value: ring.bytes,
        unit: 'bytes',
        about: 'buffers and descriptors, taken when the device comes up',
      },
      {
        name: 'of all queues',
        value: ring.bytes * queues,
        unit: 'bytes',
        about: `${queues} ${queues === 1 ? 'queue' : 'queues'}`,
      },
    ],
    settings: [`ethtool -G eth0 rx ${descriptors}`],
    check: [
      'rx_missed_errors (ip -s -s link show eth0) and the driver’s own counters (ethtool -S eth0) stay the same under load',
      'time_squeeze in /proc/net/softnet_stat tells how often polling stopped early',
    ],
    problem:
      lost > 0
        ? `${countText(lost)} frames are missed even with ${MOST_RING} descriptors: more queues, or a shorter stall`
        : null,
  }
}
