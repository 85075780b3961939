/**
 * Sending in copy mode: each system call takes a batch of descriptors, makes packets of them and gives those straight
 * to the driver. A chunk is the user's again when its packet is freed: the destructor posts the address in the
 * completion ring, where room was reserved beforehand.
 *
 * The kernel counts reserved entries in its own copy of the producer and posts at the shared one, so the two differ by
 * what is in flight. Some error paths post and give the reservation back as well: after them the two stay apart.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { consumeSkb, type SkBuff } from '@netmem/skbuff'
import { type Sock, sockWfree } from '@netmem/sockmem'
import { devDirectXmit, NET_XMIT_DROP, NETDEV_TX_BUSY } from '@netmem/virtual-nic'
import { xskBuildSkb } from './xsk-build-skb.js'
import type { XskEnv } from './xsk-env.js'
import {
  xskqConsCancel,
  xskqConsPresentEntries,
  xskqConsPublish,
  xskqConsRelease,
  xskqProdCancel,
  xskqProdReserve,
  xskqProdSubmitN,
  xskqProdWriteAddr,
} from './xsk-queue.js'
import { type XdpSock, xdpSk, xskIsBound } from './xsk-sock.js'
import { xskCqSubmitSkb, xskGetNumDesc, xskSkbDropRecord } from './xsk-tx-addrs.js'
import { TX_INVALID, TX_NONE, xpMbDesc, xskqConsPeekDesc } from './xsk-tx-desc.js'

/** Models `xsk_destruct_skb`: the packet's bytes are not needed any more. */
export function xskDestructSkb(env: XskEnv, cpu: Cpu, skb: SkBuff): void {
  xskCqSubmitSkb(env, cpu, xdpSk(env.socks.sockOf(skb)).pool!.cq, skb)
  sockWfree(env.socks, cpu, skb)
}

/** Models `xsk_tx_writeable`. */
const xskTxWriteable = (xs: XdpSock): boolean => xskqConsPresentEntries(xs.tx!) <= xs.tx!.nentries >>> 1

/** Models `__xsk_tx_release`: the user sees what was taken, and is woken when that is much. */
export function xskTxRelease(cpu: Cpu, xs: XdpSock): void {
  xskqConsPublish(xs.tx!)
  if (xskTxWriteable(xs)) xs.sk.writeSpace(cpu, xs.sk)
}

/**
 * Models `__xsk_generic_xmit` (net/xdp/xsk.c).
 *
 * @returns 0: nothing more to send, or a descriptor made no sense; -EAGAIN: call again (the budget is used up, the
 *   completion ring is full, the driver is busy, the send buffer is full); -EBUSY: the driver dropped a packet; -ENXIO.
 */
export function xskGenericXmit(cpu: Cpu, sk: Sock): number {
  const xs = xdpSk(sk)
  if (!xskIsBound(xs)) return -ERRNO.ENXIO
  if (xs.queueId >= xs.dev!.realNumTxQueues) return 0
  return xs.env.multiBuffer ? xmitPackets(cpu, xs) : xmitSingles(cpu, xs)
}

function xmitPackets(cpu: Cpu, xs: XdpSock): number {
  const tx = xs.tx!
  const pool = xs.pool!
  const { cq } = pool
  const { desc } = xs
  const from = tx.cachedCons
  let budget = xs.maxTxBudget
  let err = 0
  for (;;) {
    const found = xskqConsPeekDesc(pool, tx, desc)
    if (found === TX_NONE) break
    if (found === TX_INVALID) {
      err = reclaimInvalid(cpu, xs)
      break
    }
    if (budget === 0) {
      err = -ERRNO.EAGAIN
      break
    }
    budget--
    if (!xskqProdReserve(cq)) {
      err = -ERRNO.EAGAIN
      break
    }
    if (xs.drainCont) {
      throwAway(xs)
      continue
    }
    err = xskBuildSkb(cpu, xs, desc)
    if (err === -ERRNO.EOVERFLOW) {
      xskDropSkb(cpu, xs)
      xskqConsRelease(tx)
      xs.drainCont = xpMbDesc(desc)
      err = 0
      continue
    }
    if (err !== 0) {
      xskqProdCancel(cq, 1)
      break
    }
    xskqConsRelease(tx)
    if (xpMbDesc(desc)) continue
    err = xmitOne(cpu, xs)
    if (err !== 0) break
  }
  if (tx.cachedCons !== from) xskTxRelease(cpu, xs)
  return err
}

/** Gives the finished packet to the driver. @returns 0, -EAGAIN with its descriptors still in the ring, or -EBUSY. */
function xmitOne(cpu: Cpu, xs: XdpSock): number {
  const skb = xs.skb!
  const rc = devDirectXmit(xs.env.devs, cpu, skb, xs.queueId)
  if (rc === NETDEV_TX_BUSY) {
    xskqConsCancel(xs.tx!, xskGetNumDesc(xs.env, skb))
    xskConsumeSkb(cpu, xs)
    return -ERRNO.EAGAIN
  }
  xs.skb = null
  return rc === NET_XMIT_DROP ? -ERRNO.EBUSY : 0
}

/** The descriptor at hand is completed unsent: it belongs to a packet that was given up. */
function throwAway(xs: XdpSock): void {
  const { desc } = xs
  const { cq } = xs.pool!
  xskqProdWriteAddr(cq, 0, desc.addrLo, desc.addrHi)
  xskqProdSubmitN(cq, 1)
  xs.tx!.invalidDescs++
  xskqConsRelease(xs.tx!)
  xs.drainCont = xpMbDesc(desc)
}

/**
 * An invalid descriptor voids the packet that it is part of, and ends the batch. Its chunk comes back like the others,
 * whatever address it names. @returns 0, or -EAGAIN without room for it.
 */
function reclaimInvalid(cpu: Cpu, xs: XdpSock): number {
  // Remembered even without room for the completion now: the user may put something else into the slot meanwhile.
  if (xpMbDesc(xs.desc)) xs.drainCont = true
  if (xs.skb !== null) {
    xs.drainCont = true
    xskDropSkb(cpu, xs)
  }
  if (!xskqProdReserve(xs.pool!.cq)) return -ERRNO.EAGAIN
  throwAway(xs)
  return 0
}

/** Models `xsk_drop_skb`: the packet so far is freed, and its destructor completes what was in it. */
export function xskDropSkb(cpu: Cpu, xs: XdpSock): void {
  const skb = xs.skb!
  xs.tx!.invalidDescs += xskGetNumDesc(xs.env, skb)
  xs.skb = null
  consumeSkb(cpu, skb, 'xsk_drop_skb')
}

/** Models `xsk_consume_skb`: freed without completing anything, as its descriptors will be looked at again. */
function xskConsumeSkb(cpu: Cpu, xs: XdpSock): void {
  const { env } = xs
  const skb = xs.skb!
  const count = xskGetNumDesc(env, skb)
  xskSkbDropRecord(env, cpu, skb)
  skb.destructor = env.socks.sockWfree
  xskqProdCancel(xs.pool!.cq, count)
  xs.skb = null
  consumeSkb(cpu, skb, 'xsk_consume_skb')
}

/** The loop of kernels that know one descriptor a packet: invalid ones are skipped, and nothing is published half way. */
function xmitSingles(cpu: Cpu, xs: XdpSock): number {
  const tx = xs.tx!
  const pool = xs.pool!
  const { desc } = xs
  let budget = xs.maxTxBudget
  let sent = false
  let err = 0
  for (;;) {
    if (xskqConsPeekDesc(pool, tx, desc) === TX_NONE) {
      tx.queueEmptyDescs++
      break
    }
    if (budget === 0) {
      err = -ERRNO.EAGAIN
      break
    }
    budget--
    // Without room for the completion the descriptor stays, and the caller is not told.
    if (!xskqProdReserve(pool.cq)) break
    err = xskBuildSkb(cpu, xs, desc)
    if (err !== 0) {
      xskqProdCancel(pool.cq, 1)
      break
    }
    const skb = xs.skb!
    const rc = devDirectXmit(xs.env.devs, cpu, skb, xs.queueId)
    if (rc === NETDEV_TX_BUSY) {
      xskConsumeSkb(cpu, xs)
      err = -ERRNO.EAGAIN
      break
    }
    xs.skb = null
    xskqConsRelease(tx)
    if (rc === NET_XMIT_DROP) {
      err = -ERRNO.EBUSY
      break
    }
    sent = true
  }
  if (sent && xskTxWriteable(xs)) xs.sk.writeSpace(cpu, xs.sk)
  return err
}
