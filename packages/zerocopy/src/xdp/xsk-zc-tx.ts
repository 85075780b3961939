/**
 * Sending in zero-copy mode: the driver takes descriptors itself and hands the chunks to the card. Completions come
 * in order, so they are only counted.
 */
import type { Cpu, DmaAddr } from '@netmem/base'
import { DMA_BIDIRECTIONAL, dmaSyncSingleForDevice } from '@netmem/dma'
import type { XskBuffPool } from './xsk-buff-pool.js'
import { xpRawGetDma } from './xsk-dma.js'
import {
  xskqConsPublish,
  xskqConsRelease,
  xskqConsSkipSpoilt,
  xskqDescWord,
  xskqProdNbFree,
  xskqProdSubmitN,
} from './xsk-queue.js'
import type { XdpSock } from './xsk-sock.js'
import { TX_INVALID, TX_NONE, xpMbDesc, xskqConsPeekDesc } from './xsk-tx-desc.js'
import { xskTxRelease } from './xsk-xmit.js'

/** Models `MAX_PER_SOCKET_BUDGET`: sockets on one queue take turns. */
const MAX_PER_SOCKET_BUDGET = 32

/**
 * Models `xsk_tx_peek_release_desc_batch` (net/xdp/xsk.c): the next descriptors for the card, in `pool.txDma`,
 * `txLen` and `txOptions`. The completion ring has room for all of them. Invalid ones are counted and skipped.
 *
 * @returns how many; only whole packets.
 */
export function xskTxPeekReleaseDescBatch(cpu: Cpu, pool: XskBuffPool, max: number): number {
  const most = Math.min(max, pool.txDma.length)
  const list = pool.xskTxList
  if (list.length === 0 || most === 0) return 0
  const room = xskqProdNbFree(pool.cq, most)
  if (room === 0) return 0
  let taken = 0
  if (list.length === 1) taken = takeFrom(cpu, pool, list[0]!, 0, room)
  else
    for (let before = -1; before !== taken && taken < room; ) {
      before = taken
      for (const xs of list) taken = takeFrom(cpu, pool, xs, taken, Math.min(room, taken + MAX_PER_SOCKET_BUDGET))
    }
  return taken
}

/** Takes whole packets from one socket into places `[at, end)`. @returns one past the last place used. */
function takeFrom(cpu: Cpu, pool: XskBuffPool, xs: XdpSock, at: number, end: number): number {
  const tx = xs.tx!
  const { cq } = pool
  const { desc } = xs
  const map = pool.dmaMapping!
  let n = at
  let whole = at
  let skipped = 0
  while (n < end) {
    const found = xskqConsPeekDesc(pool, tx, desc)
    if (found === TX_NONE) break
    if (found === TX_INVALID) {
      // What there is of the packet goes with it.
      tx.invalidDescs += 1 + n - whole
      n = whole
      xskqConsRelease(tx)
      skipped++
      if (skipped % tx.nentries === 0) xskqConsSkipSpoilt(tx)
      continue
    }
    const dma = xpRawGetDma(map, desc.offset)
    pool.txDma[n] = dma
    pool.txLen[n] = desc.len
    pool.txOptions[n] = desc.options
    if (map.needSync)
      dmaSyncSingleForDevice(cpu, map.device, dma as DmaAddr, desc.len, DMA_BIDIRECTIONAL, 'xp_dma_sync_for_device')
    const word = xskqDescWord(cq, cq.cachedProd + n - at)
    cq.i32[word] = desc.addrLo
    cq.i32[word + 1] = desc.addrHi
    xskqConsRelease(tx)
    n++
    if (!xpMbDesc(desc)) whole = n
  }
  // The rest of a packet that is not complete stays in the ring.
  tx.cachedCons = (tx.cachedCons - (n - whole)) | 0
  cq.cachedProd = (cq.cachedProd + whole - at) | 0
  if (whole !== at) xskTxRelease(cpu, xs)
  else xskqConsPublish(tx)
  return whole
}

/** Models `xsk_tx_completed`: the card is done with the first `count` chunks in flight. */
export function xskTxCompleted(pool: XskBuffPool, count: number): void {
  xskqProdSubmitN(pool.cq, count)
}
