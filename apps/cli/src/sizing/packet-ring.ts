/**
 * `PACKET_RX_RING` (TPACKET_V3) for a load: a ring on the model is filled by frames while nobody reads, which shows
 * how many frames a block really holds; then the ring that holds the whole stall is tried.
 */
import { bytesText, countText } from '../report/format.js'
import type { SizeAnswer } from './answer.js'
import { framesInStall, framesPerSecond, lastAnswer, type StallQuestion, stallWords } from './frames-in-stall.js'

const LEAST_BLOCK = 64 << 10
const MOST_BLOCK = 1 << 20
const FRAMES_PER_BLOCK = 64
/** Larger rings are counted from smaller ones. */
const MOST_TRIED = 24 << 20
const FRAME_BYTES = 2048
const RETIRE_MS = 60
const MOST_RING = 2 ** 31

/** Fills a ring of so many blocks with frames that nobody reads. @returns how many found room, of `frames`. */
function held(question: StallQuestion, blockBytes: number, blocks: number, frames: number): number {
  const { profile, mtu, frameBytes } = question
  const stats = lastAnswer(profile, 'packet-mmap', [
    { do: 'veth', mtu, addr: false },
    { do: 'packet_socket', id: 'p', dev: 'v0', type: 'SOCK_RAW' },
    { do: 'packet_opt', id: 'p', opt: 'PACKET_VERSION', value: 'TPACKET_V3' },
    {
      do: 'packet_ring',
      id: 'p',
      ring: 'rx',
      block_size: blockBytes,
      block_nr: blocks,
      frame_size: FRAME_BYTES,
      frame_nr: (blockBytes / FRAME_BYTES) * blocks,
      retire_tov: RETIRE_MS,
    },
    { do: 'inject', dev: 'v1', frame: { raw: frameBytes }, count: frames },
    { do: 'packet_stats', id: 'p' },
  ])
  // tp_packets counts those that were dropped too.
  return stats.tp_packets! - stats.tp_drops!
}

export function sizePacketRing(question: StallQuestion): SizeAnswer {
  const { profile, frameBytes } = question
  const frames = framesInStall(question)
  let blockBytes = LEAST_BLOCK
  while (blockBytes < MOST_BLOCK && blockBytes < FRAMES_PER_BLOCK * (frameBytes + 100)) blockBytes *= 2
  const tried = 3
  const perBlock =
    held(question, blockBytes, tried, 4 * tried * Math.ceil(blockBytes / Math.max(frameBytes, 60))) / tried
  // The block being filled is closed early by its timer, so one more is needed.
  const blocks = Math.ceil(frames / Math.floor(perBlock)) + 1
  const bytes = blocks * blockBytes
  const measured = [
    {
      name: 'frames in the stall',
      value: frames,
      unit: 'frames' as const,
      about: `${countText(framesPerSecond(question))} a second`,
    },
    {
      name: 'a block holds',
      value: Math.floor(perBlock),
      unit: 'frames' as const,
      about: `of ${bytesText(blockBytes)}, filled on the model; each frame brings its headers`,
    },
    {
      name: 'memory',
      value: bytes,
      unit: 'bytes' as const,
      about: `${blocks} blocks, pinned for as long as the ring exists`,
    },
  ]
  if (bytes <= MOST_TRIED)
    measured.push({
      name: 'tried whole',
      value: frames - held(question, blockBytes, blocks, frames),
      unit: 'frames',
      about: `dropped of ${countText(frames)} on the model with this ring`,
    })
  return {
    schema: 'netmem-size/1',
    what: 'packet-ring',
    kernel: profile.name,
    question: stallWords(question, 'the program'),
    assumptions: [
      'TPACKET_V3, one ring, whole frames (no snap length)',
      `blocks of ${bytesText(blockBytes)}: large enough for ${FRAMES_PER_BLOCK} frames, small enough to be found in one piece`,
      'the program takes a block as soon as it is closed, and is quick enough on average',
    ],
    measured,
    settings: [
      `tp_block_size = ${blockBytes}, tp_block_nr = ${blocks}, tp_frame_size = ${FRAME_BYTES}, tp_frame_nr = ${(blockBytes / FRAME_BYTES) * blocks}, tp_retire_blk_tov = ${RETIRE_MS}`,
    ],
    check: [
      'getsockopt(PACKET_STATISTICS): tp_drops and tp_freeze_q_cnt stay 0 under load',
      'a ring is limited by memory in one piece: smaller blocks, more of them, where setsockopt answers ENOMEM',
    ],
    problem:
      bytes > MOST_RING
        ? `the ring would take ${bytesText(bytes)}: a shorter stall, several rings with PACKET_FANOUT, or a snap length`
        : null,
  }
}
