/**
 * Which chunks a packet on its way out stands for. One address fits into the packet's shared info; of several, the
 * shared info names a record here.
 *
 * The kernel marks a single address by its lowest bit, and so forgets that bit: a chunk sent from an odd address comes
 * back as the even one below.
 */
import { type Addr, assert, type Cpu } from '@netmem/base'
import { kmemCacheFree, kmemCacheZalloc } from '@netmem/memory'
import { SHINFO_DESTRUCTOR_ARG_WORD, type SkBuff } from '@netmem/skbuff'
import type { XskEnv } from './xsk-env.js'
import { type XskQueue, xskqProdSubmitN, xskqProdWriteAddr } from './xsk-queue.js'

/** Models `struct xsk_addrs`: the addresses of one packet, in order, as two words each. */
export class XskAddrs {
  /** Address of the slab object. */
  addr = 0 as Addr
  count = 0
  readonly lo: number[] = []
  readonly hi: number[] = []
}

/** Records by number, so that a packet can name one. Number 0 is nobody. */
export class XskAddrsPool {
  readonly records: (XskAddrs | null)[] = [null]
  readonly free: number[] = []
}

const argWord = (skb: SkBuff): number => (skb.end >>> 2) + SHINFO_DESTRUCTOR_ARG_WORD

/** Models `xsk_skb_destructor_set_addr`. */
export function xskSkbSetAddr(skb: SkBuff, lo: number, hi: number): void {
  const { i32 } = skb.env.mem
  const word = argWord(skb)
  i32[word] = lo | 1
  i32[word + 1] = hi
}

/** @returns the record of a packet from several descriptors, null when it has one address. */
function recordOf(env: XskEnv, skb: SkBuff): XskAddrs | null {
  const arg = env.mem.i32[argWord(skb)]!
  return (arg & 1) === 0 ? env.addrs.records[arg >> 1]! : null
}

/** Models `xsk_get_num_desc`. */
export const xskGetNumDesc = (env: XskEnv, skb: SkBuff): number => recordOf(env, skb)?.count ?? 1

/**
 * Another descriptor joins the packet; the first one that does makes the record.
 *
 * @returns false without memory, with the packet as it was.
 */
export function xskSkbAddAddr(env: XskEnv, cpu: Cpu, skb: SkBuff, lo: number, hi: number): boolean {
  const record = recordOf(env, skb) ?? makeRecord(env, cpu, skb)
  if (record === null) return false
  record.lo[record.count] = lo
  record.hi[record.count] = hi
  record.count++
  return true
}

function makeRecord(env: XskEnv, cpu: Cpu, skb: SkBuff): XskAddrs | null {
  const addr = kmemCacheZalloc(env.addrsCache, cpu, env.mem.gfp.GFP_KERNEL, 'xsk_build_skb')
  if (addr === 0) return null
  const { records, free } = env.addrs
  const number = free.pop() ?? records.length
  const record = records[number] ?? new XskAddrs()
  records[number] = record
  const { i32 } = env.mem
  const word = argWord(skb)
  record.addr = addr
  record.count = 1
  record.lo[0] = i32[word]! & ~1
  record.hi[0] = i32[word + 1]!
  i32[word] = number << 1
  i32[word + 1] = 0
  return record
}

/** Gives the record back. What it said is valid until the next one is made. */
export function xskSkbDropRecord(env: XskEnv, cpu: Cpu, skb: SkBuff): void {
  const record = recordOf(env, skb)
  if (record === null) return
  assert(record.addr !== 0, 'addresses of a packet freed twice')
  kmemCacheFree(env.addrsCache, cpu, record.addr, 'xsk_destruct_skb')
  record.addr = 0 as Addr
  env.addrs.free.push(env.mem.i32[argWord(skb)]! >> 1)
}

/** Models `xsk_cq_submit_addr_locked`: the packet's chunks are in the completion ring. Takes the record. */
export function xskCqSubmitSkb(env: XskEnv, cpu: Cpu, cq: XskQueue, skb: SkBuff): void {
  const record = recordOf(env, skb)
  if (record === null) {
    const word = argWord(skb)
    xskqProdWriteAddr(cq, 0, env.mem.i32[word]! & ~1, env.mem.i32[word + 1]!)
    xskqProdSubmitN(cq, 1)
    return
  }
  const { count } = record
  for (let i = 0; i < count; i++) xskqProdWriteAddr(cq, i, record.lo[i]!, record.hi[i]!)
  xskSkbDropRecord(env, cpu, skb)
  xskqProdSubmitN(cq, count)
}

/** @returns the chunks that a packet stands for, low words; for audits. */
export function xskSkbAddrs(env: XskEnv, skb: SkBuff): number[] {
  const record = recordOf(env, skb)
  return record === null ? [env.mem.i32[argWord(skb)]! & ~1] : record.lo.slice(0, record.count)
}
