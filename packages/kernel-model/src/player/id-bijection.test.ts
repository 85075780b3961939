import { describe, expect, it } from 'vitest'
import { IdBijection } from './id-bijection.js'

const event = (id: string) => ({ ev: 'kfree', site: 'skb_release_data', id })

describe('labels of allocations', () => {
  it('match by bijection and not by number, over the whole trace', () => {
    const ids = new IdBijection()
    expect(ids.sameEvents([event('a0'), event('a1')], [event('a7'), event('a3')])).toBe(true)
    expect(ids.sameEvents([event('a0')], [event('a7')])).toBe(true)
    expect(ids.sameEvents([event('a0')], [event('a3')])).toBe(false)
    expect(ids.sameEvents([event('a2')], [event('a7')])).toBe(false)
  })

  it('may point into an object, at the same offset', () => {
    const ids = new IdBijection()
    expect(ids.sameEvents([event('a6+224'), event('a6')], [event('a1+224'), event('a1')])).toBe(true)
    expect(ids.sameEvents([event('a6+224')], [event('a1+232')])).toBe(false)
  })

  it('may be runs, whose members are matched one by one', () => {
    const ids = new IdBijection()
    expect(ids.sameEvents([event('p0..p3')], [event('p8..p11')])).toBe(true)
    expect(ids.sameEvents([event('p2')], [event('p10')])).toBe(true)
    expect(ids.sameEvents([event('p3')], [event('p10')])).toBe(false)
    expect(ids.sameEvents([event('p4..p6')], [event('p20..p21')])).toBe(false)
  })

  it('learn nothing from a list that differs', () => {
    const ids = new IdBijection()
    expect(ids.sameEvents([event('a0'), { ...event('a1'), site: 'x' }], [event('a5'), event('a6')])).toBe(false)
    expect(ids.sameEvents([event('a0')], [event('a6')])).toBe(true)
  })
})
