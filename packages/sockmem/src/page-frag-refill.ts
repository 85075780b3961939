/**
 * Where sends put their bytes: the task's page fragment when the socket is used from process context, else one
 * of the socket's own.
 */
import type { Cpu, Gfp } from '@netmem/base'
import { type PageFrag, SK_PAGE_FRAG_BYTES, skbPageFragRefill } from '@netmem/page-frag'
import { skEnterMemoryPressure } from './pressure.js'
import type { Sock } from './sock.js'
import { skStreamModerateSndbuf } from './stream-space.js'

/**
 * Models `sk_page_frag_refill` (net/core/sock.c): at least 32 bytes of room, or pressure and a smaller send buffer.
 *
 * @returns false without a page; the fragment is then empty.
 */
export function sockPageFragRefill(cpu: Cpu, sk: Sock, pfrag: PageFrag): boolean {
  const { env } = sk
  if (
    skbPageFragRefill(env.mem, cpu, SK_PAGE_FRAG_BYTES, pfrag, sk.allocation as Gfp, env.highOrderAllocDisable[0] !== 0)
  )
    return true
  skEnterMemoryPressure(cpu, sk)
  skStreamModerateSndbuf(sk)
  return false
}
