import { seeded } from '@netmem/base/testing'
import { describe, expect, it } from 'vitest'
import { IoTlbSlots, ioTlbFindSlots, ioTlbReleaseSlots, limitNareas, nrSlots } from './swiotlb-slots.js'
import { auditIoTlbSlots } from './testing.js'

const find = (s: IoTlbSlots, cpu: number, bytes: number, orig = 0, mask = 0): number =>
  ioTlbFindSlots(s, cpu, orig, bytes, mask, 4096)

describe('the slots of a bounce pool', () => {
  it('looks in the area of the CPU first, and in the others in turn when that is full', () => {
    const s = new IoTlbSlots(1 << 20, 512, 4)
    expect([find(s, 0, 100), find(s, 1, 100), find(s, 2, 100), find(s, 5, 100)]).toEqual([0, 128, 256, 129])
    for (let i = 0; i < 127; i++) find(s, 0, 2048)
    expect(find(s, 0, 2048)).toBe(130)
    expect(s.areas.map((area) => area.used)).toEqual([128, 3, 1, 0])
    auditIoTlbSlots(s)
  })

  it('searches on from where the last search ended, not from the lowest free slot', () => {
    const s = new IoTlbSlots(0, 128, 1)
    const a = find(s, 0, 2048)
    ioTlbReleaseSlots(s, a, 1)
    expect(find(s, 0, 2048)).toBe(1)
  })

  it('never lets a mapping leave its segment of 128 slots', () => {
    const s = new IoTlbSlots(0, 256, 1)
    expect(find(s, 0, 120 * 2048)).toBe(0)
    expect(find(s, 0, 16 * 2048)).toBe(128)
    expect(find(s, 0, 128 * 2048)).toBe(-1)
    auditIoTlbSlots(s)
  })

  it('starts mappings of a page or more on a page', () => {
    const s = new IoTlbSlots(0, 128, 1)
    expect(find(s, 0, 100)).toBe(0)
    expect(find(s, 0, 4096)).toBe(2)
    expect(find(s, 0, 4095)).toBe(4)
  })

  it('keeps the address bits that the device asked for', () => {
    const s = new IoTlbSlots(0, 128, 1)
    expect(find(s, 0, 512, 0x12345800, 4095)).toBe(1)
    expect(find(s, 0, 512, 0x12346000, 4095)).toBe(2)
    expect(find(s, 0, 512, 0x12346800, 4095)).toBe(3)
  })

  it('refuses to release a slot that is free', () => {
    const s = new IoTlbSlots(0, 128, 1)
    const a = find(s, 0, 10)
    ioTlbReleaseSlots(s, a, 1)
    expect(() => ioTlbReleaseSlots(s, a, 1)).toThrow('not in use')
  })

  it('gives an area at least a segment', () => {
    expect([limitNareas(1, 512), limitNareas(3, 512), limitNareas(8, 512), limitNareas(64, 128)]).toEqual([1, 4, 4, 1])
  })

  it.each([1, 2, 3, 4, 5])('agrees with a bitmap under random steps (seed %i)', (seed) => {
    const { rng, label } = seeded(seed)
    const nslabs = 512
    const areas = 1 << rng.below(3)
    const s = new IoTlbSlots(4096 * rng.below(1000), nslabs, areas)
    const bitmap = new Uint8Array(nslabs)
    const live: { slot: number; count: number }[] = []
    for (let step = 0; step < 1500; step++) {
      if (rng.below(5) < 3) {
        const bytes = 1 + rng.below(rng.below(4) === 0 ? 60000 : 3000)
        const mask = rng.below(3) === 0 ? 4095 : 0
        const orig = rng.below(1 << 28)
        const slot = find(s, rng.below(4), bytes, orig, mask)
        const count = nrSlots(bytes)
        if (slot < 0) {
          expect(fits(bitmap, s, count, bytes, orig, mask), `${label} step ${step}`).toBe(false)
          continue
        }
        for (let i = slot; i < slot + count; i++) {
          expect(bitmap[i], `${label} step ${step}`).toBe(0)
          bitmap[i] = 1
        }
        live.push({ slot, count })
      } else if (live.length > 0) {
        const [gone] = live.splice(rng.below(live.length), 1)
        ioTlbReleaseSlots(s, gone!.slot, gone!.count)
        bitmap.fill(0, gone!.slot, gone!.slot + gone!.count)
      }
      auditIoTlbSlots(s)
      expect(s.used, label).toBe(bitmap.reduce((a, b) => a + b, 0))
    }
    for (const { slot, count } of live) ioTlbReleaseSlots(s, slot, count)
    expect(s.used).toBe(0)
    auditIoTlbSlots(s)
  })
})

// Every place that the rules allow, one by one. The stride of the search starts at any index, so it may step over
// aligned places; what it finds must be allowed, and a failure means that no run of that many slots is aligned.
function fits(bitmap: Uint8Array, s: IoTlbSlots, count: number, bytes: number, orig: number, mask: number): boolean {
  const align = mask === 0 && bytes >= 4096 ? 4095 : 2047
  for (let i = 0; i + count <= bitmap.length; i++) {
    const addr = s.start + i * 2048
    if ((addr & align) !== 0 || (addr & mask & ~align) !== (orig & mask & ~align)) continue
    if ((i % 128) + count > 128 || bitmap.subarray(i, i + count).includes(1)) continue
    return true
  }
  return false
}
