/** The end of a `struct tls_context`. */
import type { Cpu } from '@netmem/base'
import { kfree } from '@netmem/memory'
import type { TlsContext } from './tls-context.js'

/** Models `tls_ctx_free`: the keys are gone. */
export function tlsCtxFree(cpu: Cpu, ctx: TlsContext): void {
  const { env } = ctx
  for (const info of [ctx.cryptoSend, ctx.cryptoRecv]) {
    info?.key.fill(0)
    info?.iv.fill(0)
    info?.salt.fill(0)
  }
  env.contexts[ctx.id] = null
  env.freeIds.push(ctx.id)
  kfree(env.socks.mem, cpu, ctx.addr, 'tls_ctx_free')
}
