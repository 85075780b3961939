/**
 * Frames that a program is fed without any device having received them: BPF_PROG_TEST_RUN with
 * BPF_F_TEST_XDP_LIVE_FRAMES. Each run has a page pool of its own, which lives for the call.
 */
import { type Addr, type Cpu, ERRNO, NO_PFN } from '@netmem/base'
import { kmemCacheAllocObjBulk } from '@netmem/memory'
import {
  type PagePool,
  pagePoolCreate,
  pagePoolDestroy,
  pagePoolDevAllocPages,
  pagePoolReleasePage,
} from '@netmem/page-pool'
import { buildSkbAround, type SkBuff, skbPut, skbReserve } from '@netmem/skbuff'
import { ETH_HLEN, ethTypeTrans } from './eth.js'
import type { NetDevice } from './net-device.js'
import type { NetDevs } from './net-devs.js'
import { netifReceiveSkb } from './receive.js'
import { localBhDisable, localBhEnable } from './softirq.js'
import {
  MEM_TYPE_PAGE_POOL,
  XDP_ABORTED,
  XDP_DROP,
  XDP_PACKET_HEADROOM,
  XDP_PASS,
  XDP_REDIRECT,
  XDP_TX,
  XdpBuff,
  type XdpProgram,
  xdpPrepareBuff,
} from './xdp.js'
import { xdpReturnBuff } from './xdp-frame.js'
import { xdpDoFlush, xdpDoRedirect } from './xdp-redirect.js'

/** Models `TEST_XDP_MAX_BATCH`. */
const TEST_XDP_MAX_BATCH = 256
/** Models `NAPI_POLL_WEIGHT`, the batch when none is asked for. */
const DEFAULT_BATCH = 64

/** What a live run is asked to do. */
export interface XdpTestRunParams {
  readonly prog: XdpProgram
  /** The device that frames pretend to come from. */
  readonly dev: NetDevice
  /** Length of each frame, in bytes; its content is zeros. */
  readonly len: number
  /** How often the program runs; 0 is once. */
  readonly repeat: number
  /** Frames in flight together; 0 for the default. */
  readonly batch?: number
}

/** Bytes in front of `data` that a live run keeps: two contexts and the frame's descriptor. Models `struct xdp_page_head`. */
const pageHeadBytes = (env: NetDevs): number => 2 * (env.profile.structs.xdp_buff?.size ?? 56) + env.xdpFrameBytes

/**
 * Models `bpf_prog_test_run_xdp` and `bpf_test_run_xdp_live` (net/bpf/test_run.c).
 *
 * @returns 0; -E2BIG for a batch above 256; -EINVAL for a length that is no frame or does not fit one page; -ENOMEM.
 */
export function bpfProgTestRunXdp(env: NetDevs, cpu: Cpu, params: XdpTestRunParams): number {
  const batch = params.batch || DEFAULT_BATCH
  if (batch > TEST_XDP_MAX_BATCH) return -ERRNO.E2BIG
  const { pageBytes } = env.skbs.sizes
  const headroom = XDP_PACKET_HEADROOM + pageHeadBytes(env)
  const most = pageBytes - headroom - env.skbs.sizes.sharedInfoBytes
  if (params.len < ETH_HLEN || params.len > most) return -ERRNO.EINVAL
  const pool = pagePoolCreate(env.pagePools, cpu, { poolSize: batch, label: 'xdp_test_run' })
  if (typeof pool === 'number') return pool
  const run = new LiveRun(env, params, pool, headroom)
  let err = 0
  const repeat = params.repeat || 1
  for (let done = 0; done < repeat && err === 0; done += batch) err = run.batch(cpu, Math.min(batch, repeat - done))
  pagePoolDestroy(cpu, pool)
  return err
}

/** A frame that the program passed, with what it left of it. */
interface Passed {
  readonly page: Addr
  /** Bytes from the start of the buffer, behind its head, to the frame. */
  readonly headroom: number
  readonly len: number
}

class LiveRun {
  private readonly xdp: XdpBuff
  private readonly passed: Passed[] = []
  private readonly objs = new Int32Array(TEST_XDP_MAX_BATCH)

  constructor(
    private readonly env: NetDevs,
    private readonly params: XdpTestRunParams,
    private readonly pool: PagePool,
    private readonly headroom: number,
  ) {
    this.xdp = new XdpBuff(env.mem, env.skbs.sizes.sharedInfoBytes, env.xdpFrameBytes)
    this.xdp.memType = MEM_TYPE_PAGE_POOL
    this.xdp.pool = pool
    this.xdp.rxDev = params.dev.id
  }

  /**
   * Models `xdp_test_run_batch`. Frames are returned without going straight to the pool's cache, as this is not
   * the pool's own poll. @returns 0 or a negative errno: of memory only, whatever the program's verdicts are.
   */
  batch(cpu: Cpu, count: number): number {
    const { env, params, xdp, pool, passed } = this
    const start = pageHeadBytes(env)
    let err = 0
    let redirected = false
    localBhDisable(cpu)
    for (let i = 0; i < count; i++) {
      const pfn = pagePoolDevAllocPages(cpu, pool)
      if (pfn === NO_PFN) {
        err = -ERRNO.ENOMEM
        break
      }
      const page = (pfn << 12) as Addr
      this.prepare(page)
      env.mem.u8.fill(0, xdp.data >>> 0, (xdp.data >>> 0) + params.len)
      const act = params.prog.run(xdp)
      if (act === XDP_PASS) {
        const headroom = (xdp.data - page - start) | 0
        passed.push({ page, headroom, len: (xdp.dataEnd - xdp.data) | 0 })
      } else if (act === XDP_TX || act === XDP_REDIRECT) {
        // Nobody's driver runs here, so "back out of where it came from" is a redirect to that device.
        if (act === XDP_TX) xdp.target = { dev: params.dev, xsk: null }
        redirected = true
        if (xdpDoRedirect(env, cpu, xdp) !== 0) xdpReturnBuff(cpu, xdp, false)
      } else {
        // Dropped, aborted, or a verdict that does not exist.
        if (act !== XDP_DROP && act !== XDP_ABORTED)
          env.trace.printk?.(`Illegal XDP return value ${act} on prog ${params.prog.name}, expect packet loss!`)
        xdpReturnBuff(cpu, xdp, false)
      }
    }
    if (redirected) xdpDoFlush(env, cpu)
    // What was passed before an error is received all the same.
    if (passed.length > 0) err = this.receive(cpu) || err
    localBhEnable(env, cpu)
    return err
  }

  private prepare(page: Addr): void {
    const { env, xdp, params } = this
    const start = pageHeadBytes(env)
    const bytes = env.skbs.sizes.pageBytes - start
    xdpPrepareBuff(xdp, ((page + start) | 0) as Addr, bytes, this.headroom - start, params.len)
  }

  /** Models `xdp_recv_frames`: heads for all frames at once, then the stack. @returns 0 or -ENOMEM, with the frames returned. */
  private receive(cpu: Cpu): number {
    const { env, params, pool, passed, xdp } = this
    const { skbs } = env
    const got = kmemCacheAllocObjBulk(
      skbs.skbuffCache,
      cpu,
      skbs.gfpAtomic,
      passed.length,
      this.objs,
      0,
      'xdp_recv_frames',
    )
    const frames = passed.splice(0)
    if (got === 0) {
      for (const { page } of frames) {
        this.prepare(page)
        xdpReturnBuff(cpu, xdp, false)
      }
      return -ERRNO.ENOMEM
    }
    const start = pageHeadBytes(env)
    const packets = frames.map(({ page, headroom, len }, i): SkBuff => {
      const skb = buildSkbAround(
        cpu,
        skbs.headBodies[this.objs[i]!]!,
        ((page + start) | 0) as Addr,
        skbs.sizes.pageBytes - start,
      )
      skbReserve(skb, headroom)
      skbPut(skb, len)
      // Where an skb knows the way back to a pool the page may go it; before that the page left the pool here.
      if (env.profile.features.skbFromFrameRecycles) skb.ppRecycle = true
      else pagePoolReleasePage(cpu, pool, (page >>> 12) as Parameters<typeof pagePoolReleasePage>[2])
      ethTypeTrans(skb, params.dev)
      return skb
    })
    for (const skb of packets) netifReceiveSkb(env, cpu, skb)
    return 0
  }
}
