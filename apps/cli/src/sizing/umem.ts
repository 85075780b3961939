/**
 * Fill ring, receive ring and UMEM of an AF_XDP socket for a load: frames come while the program is away; a ring of
 * the model that misses none is found by trying.
 */
import { InputError } from '../errors.js'
import { countText } from '../report/format.js'
import type { SizeAnswer } from './answer.js'
import { framesInStall, framesPerSecond, lastAnswer, type StallQuestion, stallWords } from './frames-in-stall.js'

/** What the kernel keeps free before each frame in a chunk. */
const HEADROOM = 256
const CHUNKS = [2048, 4096]
const LEAST_RING = 64
const MOST_RING = 1 << 20
/** Larger loads are counted from this one: a frame takes a descriptor in each ring, however many there are. */
const MOST_TRIED = 8192
/** Send and completion rings, which bind() wants to exist. */
const OTHER_RING = 64

/** @returns frames that found no buffer or no room, with rings of so many entries. */
function lost(question: StallQuestion, chunk: number, entries: number, frames: number): number {
  const { profile, mtu, frameBytes } = question
  const ring = (name: string, size: number) => [
    { do: 'xsk_ring', id: 'x', ring: name, size },
    { do: 'xsk_mmap', id: 'x', ring: name },
  ]
  const stats = lastAnswer(profile, 'af-xdp', [
    { do: 'netns', id: 'B' },
    { do: 'veth', a_ns: 'A', b_ns: 'B', mtu, addr: false },
    { do: 'xsk_socket', id: 'x', ns: 'B' },
    { do: 'xsk_umem', id: 'x', len: chunk * entries, chunk_size: chunk },
    ...ring('rx', entries),
    ...ring('tx', OTHER_RING),
    ...ring('fill', entries),
    ...ring('comp', OTHER_RING),
    { do: 'xsk_bind', id: 'x', dev: 'v1', flags: ['XDP_COPY'] },
    { do: 'xskmap', id: 'm' },
    { do: 'xskmap_set', id: 'm', key: 0, xsk: 'x' },
    { do: 'xdp_attach', dev: 'v1', prog: 'redirect_pass', mode: 'native', map: 'm', frags: false },
    { do: 'xsk_fill', id: 'x', addrs: Array.from({ length: entries }, (_, i) => i * chunk) },
    { do: 'inject', dev: 'v0', frame: { raw: frameBytes }, count: frames },
    { do: 'xsk_stats', id: 'x' },
  ])
  return stats.rx_dropped! + stats.rx_ring_full! + stats.rx_fill_ring_empty_descs!
}

export function sizeUmem(question: StallQuestion): SizeAnswer {
  const { profile, frameBytes, mtu } = question
  const chunk = CHUNKS.find((bytes) => bytes - HEADROOM >= mtu + 14)
  if (chunk === undefined)
    throw new InputError(
      `--mtu ${mtu}: a frame of ${mtu + 14} bytes does not fit a chunk of ${CHUNKS.at(-1)} with its headroom of ${HEADROOM}; expected an MTU of at most ${CHUNKS.at(-1)! - HEADROOM - 14}, or multi-buffer frames (XDP_USE_SG)`,
    )
  const frames = framesInStall(question)
  const tried = Math.min(frames, MOST_TRIED)
  let entries = LEAST_RING
  let missed = lost(question, chunk, entries, tried)
  while (missed > 0 && entries < 2 * MOST_TRIED) {
    entries *= 2
    missed = lost(question, chunk, entries, tried)
  }
  while (entries < frames && entries < MOST_RING) entries *= 2
  const bytes = 2 * entries * chunk
  return {
    schema: 'netmem-size/1',
    what: 'umem',
    kernel: profile.name,
    question: stallWords(question, 'the program'),
    assumptions: [
      `chunks of ${chunk} bytes: ${frameBytes} of the frame behind ${HEADROOM} of headroom`,
      'the fill ring is full when the program goes away, and twice as many chunks exist: one half waits in the kernel, the other is with the program',
      ...(tried < frames ? [`${countText(tried)} frames were tried on the model, the rest counted like them`] : []),
    ],
    measured: [
      {
        name: 'frames in the stall',
        value: frames,
        unit: 'frames',
        about: `${countText(framesPerSecond(question))} a second`,
      },
      { name: 'missed', value: missed, unit: 'frames', about: `of ${countText(tried)} with the rings found` },
      {
        name: 'UMEM',
        value: bytes,
        unit: 'bytes',
        about: `${countText(2 * entries)} chunks, pinned; counts to RLIMIT_MEMLOCK`,
      },
    ],
    settings: [`fill ring ${entries}, receive ring ${entries}, UMEM ${bytes} bytes in chunks of ${chunk}`],
    check: [
      'getsockopt(XDP_STATISTICS): rx_fill_ring_empty_descs and rx_ring_full stay 0 under load',
      'rx_dropped there counts frames that were refused for other reasons, as too long for a chunk',
    ],
    problem:
      entries < frames
        ? `${countText(frames)} frames need more than a ring of ${countText(MOST_RING)}: several queues, or a shorter stall`
        : null,
  }
}
