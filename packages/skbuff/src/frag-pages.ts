/** References and bytes of an skb's page fragments. */
import type { Addr, Cpu, Pfn } from '@netmem/base'
import { getPage, putPage } from '@netmem/memory'
import { napiPpPutPage, netmemGetPp, pagePoolRefNetmem } from '@netmem/page-pool'
import { fragAddr, fragLen, fragPfn, nrFrags } from './shared-info.js'
import type { SkBuff } from './sk-buff.js'

/** Models `skb_frag_ref`: a page-pool page counts pool references, any other its own. */
export function skbFragRef(skb: SkBuff, i: number): void {
  const env = skb.env
  const pfn = fragPfn(skb, i)
  // Negative: a net_iov, which has no page reference.
  if (pfn > 0 && !(skb.ppRecycle && env.mem.pages.pp[env.pageHead[pfn]!] !== 0)) {
    getPage(env.mem, pfn)
    return
  }
  const netmem = pfn > 0 ? env.pageHead[pfn]! : pfn
  const pool = netmemGetPp(env.pagePools!, netmem)
  if (pool !== null) pagePoolRefNetmem(pool, netmem)
}

/**
 * Models `skb_frag_unref` and `skb_page_unref`: back to the page pool if the skb recycles and the page has one.
 *
 * @param site the function that a page event names.
 */
export function skbFragUnref(cpu: Cpu, skb: SkBuff, i: number, site: string): void {
  pageUnref(cpu, skb, fragPfn(skb, i), site)
}

/** The same for a page that is no longer in a slot. */
export function pageUnref(cpu: Cpu, skb: SkBuff, pfn: Pfn, site: string): void {
  const pools = skb.env.pagePools
  if (skb.ppRecycle && pools !== null && napiPpPutPage(pools, cpu, pfn)) return
  putPage(skb.env.mem, cpu, pfn, site)
}

/** Models `skb_pagelen` without the linear part (`__skb_pagelen`): bytes in page fragments. */
export function skbPagelen(skb: SkBuff): number {
  let bytes = 0
  for (let i = nrFrags(skb) - 1; i >= 0; i--) bytes += fragLen(skb, i)
  return bytes
}

/** Calls back for every fragment in order; cold paths only. */
export function eachFrag(skb: SkBuff, visit: (from: Addr, bytes: number) => void): void {
  const count = nrFrags(skb)
  for (let i = 0; i < count; i++) visit(fragAddr(skb, i), fragLen(skb, i))
}
