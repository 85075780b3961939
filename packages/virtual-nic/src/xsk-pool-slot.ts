/**
 * What a driver in zero-copy mode knows of AF_XDP: a pool of buffers in a user's memory, by number (*head*), and
 * descriptors to send. The pool is `zerocopy`'s; this is the slot that it fills. Models what include/net/xdp_sock_drv.h
 * offers to drivers.
 */
import type { Cpu } from '@netmem/base'
import type { Device } from '@netmem/dma'

/** Models `struct xsk_buff_pool` as a driver uses it. */
export interface XskPoolSlot {
  /** The area is mapped for a device: the driver is to use it. */
  readonly zc: boolean
  /** By head: memory address of the first byte of a frame, and the device's address of it. */
  readonly headData: Int32Array
  readonly headDma: Float64Array
  /** Models `xsk_pool_get_rx_frame_size`: bytes that a card may write into one buffer. */
  readonly rxFrameBytes: number
  /** The user takes packets in several buffers. */
  readonly sg: boolean
  /** Models `xsk_uses_need_wakeup`. */
  readonly usesNeedWakeup: boolean
  /** Models `xsk_pool_dma_map`. @returns 0 or a negative errno. */
  dmaMap(cpu: Cpu, device: Device): number
  /** Models `xsk_pool_dma_unmap`. */
  dmaUnmap(cpu: Cpu): void
  /** Models `xsk_buff_alloc_batch`. @param out heads, which are the driver's now. @returns how many. */
  allocBatch(cpu: Cpu, out: Int32Array, max: number): number
  /** Models `xsk_buff_free`. Takes the head; one that is free already stays so. */
  free(head: number): void
  /** Models `xsk_buff_dma_sync_for_cpu`. */
  syncForCpu(cpu: Cpu, head: number, bytes: number): void
  /** Models `xsk_buff_add_frag`: the next buffer of the packet that is being put together. Takes the head. */
  addFrag(head: number, bytes: number): void
  /** Gives the further buffers of that packet back. */
  dropFrags(): void
  /** The further buffers of that packet, and their lengths. */
  readonly fragHeads: readonly number[]
  readonly fragLens: readonly number[]
  /** Models `xsk_set_rx_need_wakeup` and `xsk_clear_rx_need_wakeup`; the next two for sending. */
  setRxNeedWakeup(on: boolean): void
  setTxNeedWakeup(on: boolean): void
  /** Models `xsk_tx_peek_release_desc_batch`. @returns descriptors, whole packets only, in the three arrays. */
  txPeekReleaseDescBatch(cpu: Cpu, max: number): number
  readonly txDma: Float64Array
  readonly txLen: Int32Array
  /** Bit 0: the packet goes on in the next descriptor. */
  readonly txOptions: Int32Array
  /** Models `xsk_tx_completed`: the card is done with the first `count` of those it was given. */
  txCompleted(count: number): void
}
