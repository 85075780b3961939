export {
  dmaAllocAttrs,
  dmaAllocCoherent,
  dmaFreeCoherent,
} from './coherent.js'
export type { CoherentPool } from './coherent-pool.js'
export { dmaDeclareCoherentMemory, dmaReleaseCoherentMemory, dmaReleaseFromDevCoherent } from './coherent-pool.js'
export type { DmaDebugEntry, DmaDebugType } from './debug-entries.js'
export { debugDmaAssertIdle } from './debug-owner.js'
export type { DeviceParams } from './device.js'
export {
  Device,
  devicePageGranted,
  dmaCapable,
  dmaClearMask,
  dmaDevNeedSync,
  dmaGetRequiredMask,
  dmaMaxMappingSize,
  dmaSetCoherentMask,
  dmaSetMask,
  dmaSetMaskAndCoherent,
  dmaSetMaxSegSize,
  dmaSetMinAlignMask,
  dmaSetSegBoundary,
  dmaSupported,
} from './device.js'
export type { DmaFault, DmaParams } from './dma.js'
export { Dma, deviceCreate, dmaInit } from './dma.js'
export type { DmaDebugError, DmaDebugParams, DmaMisuse } from './dma-debug.js'
export { DmaDebug } from './dma-debug.js'
export {
  DmaPool,
  dmaPoolAlloc,
  dmaPoolCreate,
  dmaPoolDestroy,
  dmaPoolFree,
  dmaPoolsShow,
  dmaPoolZalloc,
} from './dma-pool.js'
export { dmaEngineCopy, dmaEngineRead, dmaEngineTranslate, dmaEngineWrite } from './engine.js'
export { IommuDomain } from './iommu.js'
export type { IommuParams } from './iommu-dma.js'
export {
  dmaMapPage,
  dmaMapPageAttrs,
  dmaMapPhys,
  dmaMappingError,
  dmaMapSingle,
  dmaMapSingleAttrs,
  dmaNeedSync,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaSyncSingleRangeForCpu,
  dmaSyncSingleRangeForDevice,
  dmaUnmapPage,
  dmaUnmapPageAttrs,
  dmaUnmapPhys,
  dmaUnmapSingle,
  dmaUnmapSingleAttrs,
} from './mapping.js'
export type { DmaMapOps } from './ops.js'
export { getDmaOps } from './ops.js'
export { deviceRemove } from './remove.js'
export type { Scatterlist } from './sg.js'
export { dmaMapSg, dmaMapSgtable, dmaSyncSgForCpu, dmaSyncSgForDevice, dmaUnmapSg, sgSetPage } from './sg.js'
export type { IoTlbMem, SwiotlbParams } from './swiotlb.js'
export { isSwiotlbActive, isSwiotlbBuffer, isSwiotlbForceBounce, swiotlbUsage } from './swiotlb.js'
export { IO_TLB_DEFAULT_SIZE, IO_TLB_SEGSIZE, IO_TLB_SHIFT, IO_TLB_SIZE } from './swiotlb-slots.js'
export type { DmaDirection, DmaHandle } from './types.js'
export {
  DMA_ATTR_ALLOC_SINGLE_PAGES,
  DMA_ATTR_FORCE_CONTIGUOUS,
  DMA_ATTR_NO_KERNEL_MAPPING,
  DMA_ATTR_NO_WARN,
  DMA_ATTR_PRIVILEGED,
  DMA_ATTR_SKIP_CPU_SYNC,
  DMA_ATTR_WEAK_ORDERING,
  DMA_ATTR_WRITE_COMBINE,
  DMA_BIDIRECTIONAL,
  DMA_BIT_MASK,
  DMA_FROM_DEVICE,
  DMA_MAPPING_ERROR,
  DMA_NONE,
  DMA_TO_DEVICE,
  dmaAttrNonConsistent,
  dmaDirName,
  validDmaDirection,
} from './types.js'
