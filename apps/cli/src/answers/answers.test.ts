import { kernelProfile } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { bufferFor, type FitAnswer, fitInto } from './fit.js'
import { messagePaths, pathOf } from './message-path.js'
import { type TruesizeAnswer, truesizeOf } from './truesize.js'

const now = kernelProfile('linux-6.18-x86_64')
const old = kernelProfile('linux-6.1-x86_64')
const sizeOf = (path: string, bytes: number, profile = now): TruesizeAnswer =>
  truesizeOf(path, pathOf(path), profile, bytes)
const question = (name: string, messageBytes: number, profile = now) => ({ name, profile, messageBytes, wanted: null })
const fit = (path: string, bytes: number, buffer: number | null, profile = now): FitAnswer =>
  fitInto(question(path, bytes, profile), buffer)

describe('truesize', () => {
  it.each(Object.keys(messagePaths))('is the sum of its parts on %s, on both kernels', (name) => {
    for (const profile of [now, old])
      for (const bytes of [1, 600, 1400, Math.min(20000, pathOf(name).most)]) {
        const answer = sizeOf(name, bytes, profile)
        expect(answer.parts.reduce((sum, part) => sum + part.bytes, 0)).toBe(answer.truesize)
        expect(answer.parts.every((part) => part.bytes > 0 && part.name !== 'else')).toBe(true)
        const payload = answer.parts.filter((part) => part.name.startsWith('payload'))
        expect(payload.reduce((sum, part) => sum + part.bytes, 0)).toBe(bytes)
      }
  })

  it('is what the recorded kernels charged', () => {
    expect(sizeOf('udp-loopback', 1400).truesize).toBe(2304)
    expect(sizeOf('udp-loopback', 1).truesize).toBe(832)
    expect(sizeOf('udp-loopback', 1, old).truesize).toBe(768)
    expect(sizeOf('veth-xdp', 1400, old).truesize).toBe(4352)
  })
})

describe('fit', () => {
  it('answers how many datagrams of a size fit the default buffer', () => {
    expect(fit('udp-loopback', 1452, 212992)).toMatchObject({ fits: 92, bufferBytes: 212992, refusal: 'dropped' })
    expect(fit('page-pool', 1452, 212992).fits).toBe(48)
    expect(fit('udp-loopback', 1452, null).bufferBytes).toBe(212992)
  })

  it.each(Object.keys(messagePaths))('finds the smallest buffer for a number on %s', (name) => {
    const wanted = 20
    const found = bufferFor({ ...question(name, 700), wanted }, wanted)
    expect(found.fits).toBe(wanted)
    expect(fit(name, 700, found.bufferBytes).fits).toBeGreaterThanOrEqual(wanted)
    if (name !== 'tcp') expect(fit(name, 700, found.bufferBytes - 1).fits).toBeLessThan(wanted)
  })

  it('holds less of a stream than of datagrams only by what the window leaves out', () => {
    const { payloadBytes, refusal } = fit('tcp', 1400, 131072)
    expect(refusal).toBe('the window is closed')
    expect(payloadBytes).toBeGreaterThan(40000)
  })
})
