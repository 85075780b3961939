/**
 * Packets that arrive as fragments: the driver fills an skb that the NAPI keeps ready, and GRO finds the link
 * header wherever the first bytes are.
 */
import type { Cpu } from '@netmem/base'
import { kfreeSkb, napiAllocSkb, type SkBuff, skbHeadlen, skbPullUnchecked, skbPushUnchecked } from '@netmem/skbuff'
import { ETH_HLEN, ethTypeTrans } from './eth.js'
import { NETIF_F_GRO } from './features.js'
import {
  devGroReceive,
  GRO_CONSUMED,
  GRO_HELD,
  GRO_MERGED_FREE,
  GRO_NORMAL,
  groNormalOne,
  napiSkbFreeStolenHead,
  pullFromFrag0,
} from './gro.js'
import { GRO_FREE_STOLEN_HEAD, skbGroHeader } from './gro-cb.js'
import type { NapiStruct } from './napi-struct.js'

/** Models `GRO_MAX_HEAD`: the linear bytes of such a packet, 128 more than the largest link header configured. */
const GRO_MAX_HEAD_SLACK = 128

/** Models `napi_get_frags` (net/core/gro.c). @returns the NAPI's skb, empty; null without memory. */
export function napiGetFrags(cpu: Cpu, napi: NapiStruct): SkBuff | null {
  const { env } = napi
  if (napi.skb !== 0) return env.skbs.skbs[napi.skb]!
  const bytes = env.maxHeader + GRO_MAX_HEAD_SLACK
  const skb = napiAllocSkb(env.skbs, cpu, napi.dev === null ? 0 : napi.dev.id, bytes)
  if (skb === null) return null
  napi.skb = skb.id
  skb.napiId = napi.napiId
  return skb
}

/** Models `napi_free_frags`: the packet was not worth keeping. */
export function napiFreeFrags(cpu: Cpu, napi: NapiStruct): void {
  if (napi.skb === 0) return
  kfreeSkb(cpu, napi.env.skbs.skbs[napi.skb]!, 'NOT_SPECIFIED', 'napi_free_frags')
  napi.skb = 0
}

/** Models `napi_gro_frags` (net/core/gro.c). `data` of the NAPI's skb is at the MAC header. @returns one of `GRO_*`. */
export function napiGroFrags(cpu: Cpu, napi: NapiStruct): number {
  const { env } = napi
  const skb = env.skbs.skbs[napi.skb]!
  napi.skb = 0
  skb.macHeader = (skb.data - skb.head) | 0
  const header = skbGroHeader(cpu, skb, ETH_HLEN, 0)
  if (header === 0) {
    kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'napi_gro_frags')
    return GRO_CONSUMED
  }
  skb.protocol = env.mem.dv.getUint16((header + 12) >>> 0)
  if (skbHeadlen(skb) < ETH_HLEN) pullFromFrag0(cpu, skb, ETH_HLEN)
  skbPullUnchecked(skb, ETH_HLEN)
  const dev = env.devices[skb.dev]!
  skb.cb1 = 0
  const plain = (dev.features & NETIF_F_GRO) === 0 || dev.xdpProg !== null
  const ret = plain ? GRO_NORMAL : devGroReceive(cpu, napi, skb, dev)
  // Models napi_frags_finish: what is kept gets its link header taken off properly; what was merged is used again.
  if (ret === GRO_NORMAL || ret === GRO_HELD) {
    skbPushUnchecked(skb, ETH_HLEN)
    ethTypeTrans(skb, dev)
    if (ret === GRO_NORMAL) groNormalOne(cpu, napi, skb, 1)
  } else if (ret === GRO_MERGED_FREE) {
    if ((skb.cb0 & GRO_FREE_STOLEN_HEAD) !== 0) napiSkbFreeStolenHead(cpu, skb)
    else kfreeSkb(cpu, skb, 'CONSUMED', 'napi_frags_finish')
  }
  return ret
}
