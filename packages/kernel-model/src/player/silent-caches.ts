/**
 * The caches that give and take without a tracepoint: read for `caches`, and brought to where the recorder
 * had them when its set-up was over. That state is not an answer of the kernel's but an input of the trace,
 * which states it in its first `cache_state`.
 */
import { assert, type Cpu } from '@netmem/base'
import { type PageFragCache, pageFragAlloc, pageFragFree } from '@netmem/page-frag'
import { consumeSkb, napiAllocSkb, type SkBuff } from '@netmem/skbuff'
import type { Kernel } from '../kernel.js'
import { isJsonObject, type Json, type JsonObject } from '../trace/json.js'

/** Models nothing: a piece of a page-frag is a multiple of this, a cache line. */
const PIECE_BYTES = 64
/** Models `GRO_MAX_HEAD`: the head that a frame in fragments has. */
const FRAME_HEAD_BYTES = 192

/** @returns a page-frag cache as traces write it: null while it has no chunk. */
export function pageFragState(nc: PageFragCache): Json {
  return nc.virt === 0 ? null : { order: nc.order, offset: nc.offset, bias: nc.pagecntBias }
}

/**
 * Takes a new chunk and so many pieces of it that offset and bias are the given ones, then frees the pieces,
 * as the frames did that the recorder sent to get there. Each of those frames had a small head of its own,
 * which on 6.1 is a slice of another page: those are taken and freed as well. Where that page stood is not
 * recorded; what the measured steps free says that one slice fewer was gone than there were pieces.
 */
export function driveNapiFrag(kernel: Kernel, cpu: Cpu, state: JsonObject): void {
  const { fragCaches } = kernel.skbs
  const nc = fragCaches.napi[cpu.id]!
  const pieces: number[] = []
  const heads: SkBuff[] = []
  const take = (bytes: number): void => {
    const piece = pageFragAlloc(nc, cpu, bytes, fragCaches.gfp)
    assert(piece !== 0, 'no memory for the page fragment that a trace begins with')
    pieces.push(piece)
    const head = pieces.length === 1 ? null : napiAllocSkb(kernel.skbs, cpu, 0, FRAME_HEAD_BYTES)
    if (head !== null) heads.push(head)
  }
  take(PIECE_BYTES)
  const count = nc.pagecntBias + 1 - (state.bias as number)
  const used = nc.countsUp ? (state.offset as number) : nc.size - (state.offset as number)
  while (pieces.length < count - 1) take(PIECE_BYTES)
  if (count > 1) take(used - (count - 1) * PIECE_BYTES)
  else nc.offset = state.offset as number
  for (const piece of pieces)
    pageFragFree(kernel.mem, cpu, piece as Parameters<typeof pageFragFree>[2], 'page_frag_free')
  for (const head of heads) consumeSkb(cpu, head, 'tun_get_user')
}

/** What the trace's first `cache_state` says of the machine that it was recorded on. */
export interface RecordedState {
  readonly napiSkbs: number
  /** Null when the recorder did not look at the page-frag caches. */
  readonly napiFrag: JsonObject | null
}

/** @returns the state, with the recorder's customary 40 heads when the trace does not say. */
export function recordedState(steps: readonly { do: string; expect: JsonObject }[]): RecordedState {
  const expect = steps.find((step) => step.do === 'cache_state')?.expect ?? {}
  return {
    napiSkbs: typeof expect.napi_skbs === 'number' ? expect.napi_skbs : 40,
    napiFrag: 'netdev_frag' in expect && isJsonObject(expect.napi_frag) ? expect.napi_frag : null,
  }
}
