/** Page fragments, measured: one operation is one piece taken and given back. */
import { type Addr, Cpu, kernelProfile, Trace } from '@netmem/base'
import { memoryCreate } from '@netmem/memory'
import { type PageFragCache, pageFragAlloc, pageFragCacheCreate, pageFragFree } from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const BYTES = 1920
const WINDOW = 1024

const bench = (live: number): BenchCase => {
  const cpu = new Cpu(0, 0)
  let nc: PageFragCache
  const window = new Int32Array(live)
  let at = 0
  return {
    unit: 'ns/op',
    setup: () => {
      const mem = memoryCreate({
        profile: kernelProfile('linux-6.18-x86_64'),
        bytes: 64 << 20,
        cpus: 1,
        trace: new Trace(),
      })
      nc = pageFragCacheCreate(mem)
      at = 0
      for (let i = 0; i < live; i++) window[i] = pageFragAlloc(nc, cpu, BYTES, mem.gfp.GFP_ATOMIC)
    },
    run(n) {
      const { mem } = nc
      const gfp = mem.gfp.GFP_ATOMIC
      let sum = 0
      for (let i = 0; i < n; i++) {
        pageFragFree(mem, cpu, window[at]! as Addr, 'bench')
        window[at] = pageFragAlloc(nc, cpu, BYTES, gfp)
        sum ^= window[at]!
        if (++at === live) at = 0
      }
      return sum
    },
  }
}

export const cases: Readonly<Record<string, BenchCase>> = {
  'page-frag.hot': bench(1),
  'page-frag.window1024': bench(WINDOW),
}
