/**
 * Who a packet is charged to, and what happens when it is freed: the destructors. A packet on its way out
 * holds `wmemAlloc`, one in a receive queue holds `rmemAlloc`; the destructor gives it back and wakes
 * whoever waits for the room.
 */
import { assert, type Cpu } from '@netmem/base'
import { type SkBuff, skbOrphan } from '@netmem/skbuff'
import { SOCKF_USE_WRITE_QUEUE } from './constants.js'
import { skMemCharge, skMemUncharge } from './mem-schedule.js'
import type { Sock } from './sock.js'
import { skFreeWmem, sockPut } from './sock-alloc.js'
import type { SockEnv } from './sock-env.js'

// Hot path: each packet once on the way out.

/** Models `skb_set_owner_w` (net/core/sock.c): charges the packet's truesize to the sender. */
export function skbSetOwnerW(cpu: Cpu, skb: SkBuff, sk: Sock): void {
  if (skb.destructor !== 0 || skb.sk !== 0) skbOrphan(cpu, skb)
  skb.sk = sk.id
  skb.destructor = sk.env.sockWfree
  if (sk.txhash !== 0) skb.hash = sk.txhash
  sk.wmemAlloc += skb.truesize
}

/** Models `sock_wfree` (net/core/sock.c): uncharges the sender, wakes it, and frees it when this was its last packet. */
export function sockWfree(env: SockEnv, cpu: Cpu, skb: SkBuff): void {
  const sk = env.sockOf(skb)
  if (__ASSERT__) assert(sk.wmemAlloc >= skb.truesize, 'more is freed than was charged to the sender')
  if ((sk.flags & SOCKF_USE_WRITE_QUEUE) === 0) {
    // One byte stays charged while the callback runs, so that the socket cannot go from under it.
    sk.wmemAlloc -= skb.truesize - 1
    sk.writeSpace(cpu, sk)
    sk.wmemAlloc -= 1
  } else sk.wmemAlloc -= skb.truesize
  if (sk.wmemAlloc === 0) skFreeWmem(cpu, sk)
}

/** Models `skb_set_owner_r` (include/net/sock.h): charges the packet to the receiver. */
export function skbSetOwnerR(cpu: Cpu, skb: SkBuff, sk: Sock): void {
  skbOrphan(cpu, skb)
  skb.sk = sk.id
  skb.destructor = sk.env.sockRfree
  sk.rmemAlloc += skb.truesize
  skMemCharge(sk, skb.truesize)
}

/** Models `sock_rfree` (net/core/sock.c). */
export function sockRfree(env: SockEnv, cpu: Cpu, skb: SkBuff): void {
  const sk = env.sockOf(skb)
  if (__ASSERT__) assert(sk.rmemAlloc >= skb.truesize, 'more is freed than was charged to the receiver')
  sk.rmemAlloc -= skb.truesize
  skMemUncharge(cpu, sk, skb.truesize)
}

// Cold path: options, errors, early demultiplexing.

/** Models `sock_ofree` (net/core/sock.c): a packet charged to option memory. */
export function sockOfree(env: SockEnv, _cpu: Cpu, skb: SkBuff): void {
  env.sockOf(skb).omemAlloc -= skb.truesize
}

/** Models `sock_rmem_free` (net/core/skbuff.c): a packet on the error queue, charged to receive memory only. */
export function sockRmemFree(env: SockEnv, _cpu: Cpu, skb: SkBuff): void {
  env.sockOf(skb).rmemAlloc -= skb.truesize
}

/** Models `sock_efree` (net/core/sock.c): a packet that only holds a reference to the socket. */
export function sockEfree(env: SockEnv, cpu: Cpu, skb: SkBuff): void {
  sockPut(cpu, env.sockOf(skb))
}

/** Models `skb_set_owner_sk_safe`: a reference without a charge. */
export function skbSetOwnerSk(cpu: Cpu, skb: SkBuff, sk: Sock): void {
  skbOrphan(cpu, skb)
  sk.refcnt += 1
  skb.sk = sk.id
  skb.destructor = sk.env.sockEfree
}

/** Models `skb_orphan_partial`: gives up the charge but keeps the socket alive, for qdiscs that hold packets long. */
export function skbOrphanPartial(cpu: Cpu, skb: SkBuff, env: SockEnv): void {
  if (skb.sk === 0) return
  const sk = env.sockOf(skb)
  skbSetOwnerSk(cpu, skb, sk)
}
