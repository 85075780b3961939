/**
 * How large the bounce pool must be: network cards that cannot reach their buffers have every receive buffer
 * bounced for as long as it is in the ring, and every frame that is being sent.
 */
import { assert, type KernelProfile } from '@netmem/base'
import { DMA_BIT_MASK, deviceCreate, dmaSetMaskAndCoherent, swiotlbUsage } from '@netmem/dma'
import { bootKernel } from '@netmem/kernel-model'
import { devOpen, devSetMtu, ringNicCreate } from '@netmem/virtual-nic'
import { InputError } from '../errors.js'
import { bytesText, countText } from '../report/format.js'
import type { SizeAnswer } from './answer.js'

export interface SwiotlbQuestion {
  readonly profile: KernelProfile
  readonly nics: number
  readonly queues: number
  readonly ring: number
  readonly txRing: number
  readonly mtu: number
}

const SLOT_BYTES = 2048
const SEGMENT_SLOTS = 128
const DEFAULT_BYTES = 64 << 20
const FRAME_EXTRA = 22
/** Other devices and a pool in pieces: room above what the cards hold. */
const ROOM = 1.25

export function sizeSwiotlb(question: SwiotlbQuestion): SizeAnswer {
  const { profile, nics, queues, ring, txRing, mtu } = question
  const perFrame = Math.ceil((mtu + FRAME_EXTRA) / SLOT_BYTES)
  // Room for one card, and as much again: the pool halves itself until memory has it.
  const bytes = Math.max(8 << 20, 2 * ring * perFrame * SLOT_BYTES)
  const kernel = bootKernel({
    profile,
    cpus: 1,
    memoryBytes: Math.max(256 << 20, 4 * bytes),
    dma: { swiotlb: { bytes, areas: 1, force: true } },
  })
  const [cpu] = kernel.cpus as [(typeof kernel.cpus)[number]]
  const device = deviceCreate(kernel.dma, { name: '0000:00:03.0', driver: 'ring_nic' })
  dmaSetMaskAndCoherent(device, DMA_BIT_MASK(32))
  const dev = ringNicCreate(kernel.devs, { name: 'eth0', device, rxRing: ring, txRing, bufBytes: mtu + FRAME_EXTRA })
  assert(typeof dev !== 'number', 'the network card could not be made')
  const before = swiotlbUsage(kernel.dma).io_tlb_used
  if (devSetMtu(dev, mtu, cpu) !== 0 || devOpen(dev, cpu) !== 0)
    throw new InputError(`--mtu ${mtu} --ring ${ring}: the card does not come up with it on the model`)
  const receive = swiotlbUsage(kernel.dma).io_tlb_used - before
  const send = txRing * perFrame
  const all = (receive + send) * queues * nics
  const slots = Math.ceil((all * ROOM) / SEGMENT_SLOTS) * SEGMENT_SLOTS
  return {
    schema: 'netmem-size/1',
    what: 'swiotlb',
    kernel: profile.name,
    question: `${nics} network cards of ${queues} queues, receive rings of ${ring}, send rings of ${txRing}, MTU ${mtu}`,
    assumptions: [
      'every buffer is bounced (an encrypted guest, swiotlb=force, or a card that reaches only the lower 4 GiB)',
      'a classic driver that maps one buffer per descriptor; a pool of pages keeps its pages bounced just so',
      'all send descriptors are in use at once',
      `a quarter more, for other devices and because blocks must lie together within ${SEGMENT_SLOTS} slots`,
    ],
    measured: [
      {
        name: 'a receive ring',
        value: receive,
        unit: 'slots',
        about: `counted when the model’s card came up; ${countText(receive / ring)} slot(s) of 2 KiB a buffer`,
      },
      { name: 'a send ring', value: send, unit: 'slots', about: `${perFrame} slot(s) a frame` },
      { name: 'all cards', value: all, unit: 'slots', about: bytesText(all * SLOT_BYTES) },
      {
        name: 'the kernel’s default',
        value: DEFAULT_BYTES / SLOT_BYTES,
        unit: 'slots',
        about: bytesText(DEFAULT_BYTES),
      },
    ],
    settings: [
      slots <= DEFAULT_BYTES / SLOT_BYTES
        ? 'the default is enough'
        : `swiotlb=${slots}    (kernel command line; ${bytesText(slots * SLOT_BYTES)})`,
    ],
    check: [
      '/sys/kernel/debug/swiotlb/io_tlb_used and io_tlb_used_hiwater against io_tlb_nslabs',
      'if io_tlb_used only ever grows under a steady load, a driver does not unmap',
    ],
    problem: null,
  }
}
