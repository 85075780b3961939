/** A pool as a driver in zero-copy mode knows it: what include/net/xdp_sock_drv.h offers. Fills the slot of virtual-nic. */
import type { Cpu, DmaAddr } from '@netmem/base'
import { type Device, DMA_BIDIRECTIONAL, dmaSyncSingleForCpu } from '@netmem/dma'
import type { XskPoolSlot } from '@netmem/virtual-nic'
import { XDP_WAKEUP_RX, XDP_WAKEUP_TX } from './uapi.js'
import { xpAllocBatch, xpFree } from './xsk-alloc.js'
import type { XskBuffPool } from './xsk-buff-pool.js'
import { xpDmaMap, xpDmaUnmap } from './xsk-dma.js'
import { xskSetRxNeedWakeup, xskSetTxNeedWakeup } from './xsk-wakeup.js'
import { xskTxCompleted, xskTxPeekReleaseDescBatch } from './xsk-zc-tx.js'

export class XskPoolDrv implements XskPoolSlot {
  readonly headData: Int32Array
  readonly headDma: Float64Array
  readonly fragHeads: number[]
  readonly fragLens: number[]
  readonly txDma: Float64Array
  readonly txLen: Int32Array
  readonly txOptions: Int32Array

  constructor(private readonly pool: XskBuffPool) {
    this.headData = pool.headData
    this.headDma = pool.headDma
    this.fragHeads = pool.fragHeads
    this.fragLens = pool.fragLens
    this.txDma = pool.txDma
    this.txLen = pool.txLen
    this.txOptions = pool.txOptions
  }

  get usesNeedWakeup(): boolean {
    return this.pool.usesNeedWakeup
  }

  get sg(): boolean {
    return this.pool.umem.sg
  }

  get zc(): boolean {
    return this.pool.dmaMapping !== null
  }

  /** Bytes of a chunk that a card may fill: packets of several buffers leave room for the shared info. */
  get rxFrameBytes(): number {
    return this.pool.umem.sg ? this.pool.frameBytes - this.pool.env.sharedInfoBytes : this.pool.frameBytes
  }

  dmaMap(cpu: Cpu, device: Device): number {
    return xpDmaMap(cpu, this.pool, device)
  }

  dmaUnmap(cpu: Cpu): void {
    xpDmaUnmap(cpu, this.pool)
  }

  allocBatch(cpu: Cpu, out: Int32Array, max: number): number {
    return xpAllocBatch(cpu, this.pool, out, max)
  }

  free(head: number): void {
    xpFree(this.pool, head)
  }

  syncForCpu(cpu: Cpu, head: number, bytes: number): void {
    const map = this.pool.dmaMapping
    if (map?.needSync === true)
      dmaSyncSingleForCpu(
        cpu,
        map.device,
        this.headDma[head]! as DmaAddr,
        bytes,
        DMA_BIDIRECTIONAL,
        'xp_dma_sync_for_cpu',
      )
  }

  addFrag(head: number, bytes: number): void {
    this.fragHeads.push(head)
    this.fragLens.push(bytes)
  }

  dropFrags(): void {
    for (const head of this.fragHeads) xpFree(this.pool, head)
    this.fragHeads.length = 0
    this.fragLens.length = 0
  }

  setRxNeedWakeup(on: boolean): void {
    if (on !== ((this.pool.cachedNeedWakeup & XDP_WAKEUP_RX) !== 0)) xskSetRxNeedWakeup(this.pool, on)
  }

  setTxNeedWakeup(on: boolean): void {
    if (on !== ((this.pool.cachedNeedWakeup & XDP_WAKEUP_TX) !== 0)) xskSetTxNeedWakeup(this.pool, on)
  }

  txPeekReleaseDescBatch(cpu: Cpu, max: number): number {
    return xskTxPeekReleaseDescBatch(cpu, this.pool, max)
  }

  txCompleted(count: number): void {
    xskTxCompleted(this.pool, count)
  }
}
