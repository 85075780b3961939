/**
 * kTLS as an upper layer protocol of TCP: attached by `TCP_ULP`, taken off when the socket is closed.
 */
import { type Cpu, ERRNO, NULL } from '@netmem/base'
import { kzalloc } from '@netmem/memory'
import { type Sock, TCP_ESTABLISHED } from '@netmem/sockmem'
import { TlsContext } from './tls-context.js'
import { TlsEnv, type TlsParams } from './tls-env.js'
import { tlsUpdateSkProt, tlsWriteSpace } from './tls-ops.js'
import { tlsTxWork } from './tls-push.js'
import { tlsStrpWork } from './tls-strp.js'

/** Bytes of `struct tls_context` on a machine whose profile does not know it: the other kernel's. */
const CONTEXT_BYTES = 328

/** Models `struct tcp_ulp_ops`: what TCP asks of a protocol above it. */
export interface TlsUlpOps {
  readonly name: string
  /** @returns 0 or a negative errno. */
  init(cpu: Cpu, sk: Sock): number
}

/** Models `tls_register`: one machine's kTLS, and the operations that TCP's registry gets. */
export function tlsInit(params: TlsParams): { env: TlsEnv; ulp: TlsUlpOps } {
  const env = new TlsEnv(params)
  env.txWork = tlsTxWork
  env.strpWork = tlsStrpWork
  env.updateSkProt = tlsUpdateSkProt
  env.writeSpace = tlsWriteSpace
  return { env, ulp: { name: 'tls', init: (cpu, sk) => tlsUlpInit(cpu, env, sk) } }
}

/** Models `tls_init` (net/tls/tls_main.c): only a connection can have keys. @returns 0, -ENOTCONN or -ENOMEM. */
function tlsUlpInit(cpu: Cpu, env: TlsEnv, sk: Sock): number {
  if (sk.state !== TCP_ESTABLISHED) return -ERRNO.ENOTCONN
  const ctx = tlsCtxCreate(cpu, env, sk)
  if (ctx === null) return -ERRNO.ENOMEM
  tlsUpdateSkProt(sk, ctx)
  return 0
}

/** Models `tls_ctx_create`. */
function tlsCtxCreate(cpu: Cpu, env: TlsEnv, sk: Sock): TlsContext | null {
  const { mem } = env.socks
  const addr = kzalloc(mem, cpu, env.sizeOf('tls_context', CONTEXT_BYTES), mem.gfp.GFP_ATOMIC, 'tls_ctx_create')
  if (addr === NULL) return null
  const id = env.freeIds.pop() ?? env.contexts.length
  const ctx = new TlsContext(env, id, sk)
  env.contexts[id] = ctx
  ctx.addr = addr
  sk.ulpData = ctx
  return ctx
}
