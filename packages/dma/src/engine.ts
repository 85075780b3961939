/**
 * The device's side: a DMA engine that moves real bytes, and only where a mapping lets it. Without an IOMMU nothing in
 * a real machine would stop it; here the pages that the device was given do, so that a driver's mistake shows up as
 * a fault instead of as somebody else's corrupted memory.
 */
import { type DmaAddr, ERRNO } from '@netmem/base'
import { debugDmaDeviceWrote } from './debug-owner.js'
import type { Device } from './device.js'
import type { DmaFault } from './dma.js'
import { IOMMU_READ, IOMMU_WRITE, pteIsStale, pteToPfn } from './iommu.js'
import { memoryPage } from './noncoherent.js'
import { isSwiotlbBuffer, swiotlbRangeMapped } from './swiotlb.js'

const FAULT_LOG_ENTRIES = 256

/**
 * Where a device address leads.
 *
 * @returns the physical address of that byte; or -1 after a fault, which the machine's log then holds.
 */
export function dmaEngineTranslate(dev: Device, dma: DmaAddr, bytes: number, write: boolean): number {
  const { env } = dev
  if (dev.domain !== null) {
    const pte = dev.domain.pte(Math.floor(dma / env.pageBytes))
    if (pte === 0) return fault(dev, dma, bytes, write, 'unmapped')
    if ((pte & (write ? IOMMU_WRITE : IOMMU_READ)) === 0) return fault(dev, dma, bytes, write, 'protection')
    if (pteIsStale(pte)) dev.staleAccesses++
    const phys = pteToPfn(pte) * env.pageBytes + (dma % env.pageBytes)
    // A stale translation may lead to slots that somebody else has by now: the hardware cannot tell.
    if (!pteIsStale(pte) && isSwiotlbBuffer(dev, phys) && !swiotlbRangeMapped(dev, phys, bytes))
      return fault(dev, dma, bytes, write, 'unmapped')
    return phys
  }
  if (dma < 0 || dma + bytes > env.mem.bytes) return fault(dev, dma, bytes, write, 'memory')
  const pfn = Math.floor(dma / env.pageBytes)
  if ((write ? dev.writable : dev.readable)[pfn] === 0) {
    const other = (write ? dev.readable : dev.writable)[pfn] !== 0
    return fault(dev, dma, bytes, write, other ? 'protection' : 'unmapped')
  }
  if (isSwiotlbBuffer(dev, dma) && !swiotlbRangeMapped(dev, dma, bytes))
    return fault(dev, dma, bytes, write, 'unmapped')
  return dma
}

/**
 * The device writes memory: `bytes` of `src` from `at` on, to `dma`. @returns 0, or -EFAULT: then the bytes before the
 * faulting page are written.
 */
export function dmaEngineWrite(dev: Device, dma: DmaAddr, src: Uint8Array, at: number, bytes: number): number {
  const { env } = dev
  const { u8 } = env.mem
  const inMemory = src.buffer === u8.buffer
  for (let done = 0; done < bytes; ) {
    const n = Math.min(bytes - done, env.pageBytes - ((dma + done) % env.pageBytes))
    const phys = dmaEngineTranslate(dev, (dma + done) as DmaAddr, n, true)
    if (phys < 0) return -ERRNO.EFAULT
    const page = memoryPage(dev, phys >>> env.pageShift)
    if (page !== null) page.set(src.subarray(at + done, at + done + n), phys & env.pageMask)
    else {
      const from = src.byteOffset + at + done
      if (inMemory) u8.copyWithin(phys, from, from + n)
      else if (n > 64) u8.set(src.subarray(at + done, at + done + n), phys)
      else for (let i = 0; i < n; i++) u8[phys + i] = src[at + done + i]!
      if (env.debug !== null) debugDmaDeviceWrote(env.debug, dev, phys, n)
    }
    done += n
  }
  return 0
}

/** The device reads memory into `dst` from `at` on. @returns 0 or -EFAULT. */
export function dmaEngineRead(dev: Device, dma: DmaAddr, dst: Uint8Array, at: number, bytes: number): number {
  const { env } = dev
  const { u8 } = env.mem
  const inMemory = dst.buffer === u8.buffer
  for (let done = 0; done < bytes; ) {
    const n = Math.min(bytes - done, env.pageBytes - ((dma + done) % env.pageBytes))
    const phys = dmaEngineTranslate(dev, (dma + done) as DmaAddr, n, false)
    if (phys < 0) return -ERRNO.EFAULT
    const page = memoryPage(dev, phys >>> env.pageShift)
    if (page !== null) dst.set(page.subarray(phys & env.pageMask, (phys & env.pageMask) + n), at + done)
    else if (inMemory) u8.copyWithin(dst.byteOffset + at + done, phys, phys + n)
    else if (n > 64) dst.set(u8.subarray(phys, phys + n), at + done)
    else for (let i = 0; i < n; i++) dst[at + done + i] = u8[phys + i]!
    done += n
  }
  return 0
}

/**
 * One device sends what another receives: reads through the sender's mappings, writes through the receiver's, without
 * a stop in between. Both devices belong to one machine. @returns 0 or -EFAULT.
 */
export function dmaEngineCopy(from: Device, fromDma: DmaAddr, to: Device, toDma: DmaAddr, bytes: number): number {
  const { env } = from
  const { u8 } = env.mem
  for (let done = 0; done < bytes; ) {
    const src = fromDma + done
    const dst = toDma + done
    const n = Math.min(bytes - done, env.pageBytes - (src % env.pageBytes), env.pageBytes - (dst % env.pageBytes))
    const srcPhys = dmaEngineTranslate(from, src as DmaAddr, n, false)
    if (srcPhys < 0) return -ERRNO.EFAULT
    const page = memoryPage(from, srcPhys >>> env.pageShift)
    const rc =
      page === null
        ? dmaEngineWrite(to, dst as DmaAddr, u8, srcPhys, n)
        : dmaEngineWrite(to, dst as DmaAddr, page, srcPhys & env.pageMask, n)
    if (rc !== 0) return rc
    done += n
  }
  return 0
}

function fault(dev: Device, dma: number, bytes: number, write: boolean, reason: DmaFault['reason']): number {
  const { env } = dev
  dev.faults++
  if (env.faults.length === FAULT_LOG_ENTRIES) env.faults.shift()
  env.faults.push({ device: dev.name, dma, bytes, write, reason, step: env.step })
  if (env.trace.printk !== null) {
    const page = Math.floor(dma / env.pageBytes) * env.pageBytes
    const access = write ? 'Write' : 'Read'
    const code = write ? '0x05' : '0x06'
    env.trace.printk(
      `DMAR: [DMA ${access} NO_PASID] Request device [${dev.name}] fault addr 0x${page.toString(16)} ` +
        `[fault reason ${code}] PTE ${access} access is not set`,
    )
  }
  return -1
}
