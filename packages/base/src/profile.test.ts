import { describe, expect, it } from 'vitest'
import { kernelProfile, kernelProfiles, parseKernelProfile } from './profile.js'

const copy = () => structuredClone(kernelProfiles['linux-6.18-x86_64']) as unknown as Record<string, unknown>

describe('kernel profiles', () => {
  it('has the two built-in kernels, each with every feature switch', () => {
    const [reference, second] = Object.values(kernelProfiles)
    expect(reference.structs.sk_buff!.size).toBe(224)
    expect(second.structs.sk_buff!.size).toBe(232)
    expect(Object.keys(second.features)).toEqual(Object.keys(reference.features))
  })

  it('names what there is when a profile is unknown', () => {
    expect(() => kernelProfile('linux-2.4')).toThrow('there are linux-6.18-x86_64, linux-6.1-x86_64')
  })

  it.each([
    ['schema', 'netmem-profile/2', 'schema must be "netmem-profile/1"'],
    ['page_size', 5000, 'page_size must be a power of two'],
    ['HZ', '250', 'HZ must be a positive integer'],
    ['MAX_SKB_FRAGS', 46, 'MAX_SKB_FRAGS must be from 17 to 45'],
    ['structs', [], 'structs must be an object'],
    ['features', {}, /features\.\w+ must be a boolean/],
    ['sysctl', { 'net.core.rmem_max': 1 }, 'sysctl["net.core.rmem_max"] must be text'],
  ])('refuses a wrong %s and says what would be right', (key, value, words) => {
    const json = copy()
    json[key] = value
    expect(() => parseKernelProfile(json)).toThrow(words)
  })

  it('refuses what is no object at all', () => {
    for (const json of [null, 1, 'x', []]) expect(() => parseKernelProfile(json)).toThrow('profile: expected an object')
  })
})
