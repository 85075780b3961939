import { type Addr, ERRNO, type Pfn, Prng } from '@netmem/base'
import { allocPages, failNth } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import {
  AllocSkbError,
  allocSkb,
  allocSkbWithFrags,
  CHECKSUM_PARTIAL,
  CoalesceResult,
  consumeSkb,
  csumFold,
  csumPartial,
  fragLen,
  fragOff,
  fragPfn,
  kfreeSkb,
  kfreeSkbPartial,
  napiAllocSkb,
  nrFrags,
  pskbCopy,
  pskbExpandHead,
  pskbMayPull,
  pskbTrim,
  type SkBuff,
  setFragList,
  setGsoSize,
  skbAddRxFrag,
  skbAppendPagefrags,
  skbChecksum,
  skbClone,
  skbCloned,
  skbCondense,
  skbCopy,
  skbCopyAndCsumBits,
  skbCopyExpand,
  skbCow,
  skbEndOffset,
  skbGet,
  skbHeadlen,
  skbHeadroom,
  skbIsGso,
  skbLinearize,
  skbPull,
  skbPut,
  skbPutPadto,
  skbReallocHeadroom,
  skbReserve,
  skbResetMacHeader,
  skbResetNetworkHeader,
  skbResetTransportHeader,
  skbSegment,
  skbShareCheck,
  skbShift,
  skbSplit,
  skbTryCoalesce,
  skbUncloneKeeptruesize,
  skbUnshare,
} from './index.js'
import { readSkb, type SkbTestMachine, skbTestMachine } from './testing.js'

const KERNELS = ['linux-6.18-x86_64', 'linux-6.1-x86_64']

const atomic = (m: SkbTestMachine) => m.mem.gfp.GFP_ATOMIC

/** Writes `count` bytes of a seeded pattern. */
function pattern(m: SkbTestMachine, at: Addr, count: number, seed = 1): void {
  for (let i = 0; i < count; i++) m.mem.u8[(at >>> 0) + i] = (i * 7 + seed) & 255
}

function linear(m: SkbTestMachine, room: number, count: number, headroom = 0): SkBuff {
  const skb = allocSkb(m.env, m.cpu, room + headroom, atomic(m))!
  skbReserve(skb, headroom)
  pattern(m, skbPut(skb, count), count)
  return skb
}

/** Adds a page of its own with `count` bytes at `off`. */
function addPage(m: SkbTestMachine, skb: SkBuff, count: number, off = 0, seed = 2): Pfn {
  const page = allocPages(m.mem, m.cpu, atomic(m), 0, -1, 'test')
  pattern(m, ((page << 12) + off) as Addr, count, seed)
  skbAddRxFrag(skb, nrFrags(skb), page, off, count, 4096)
  return page
}

describe.each(KERNELS)('copies on %s', (profile) => {
  it('pskb_expand_head moves the data, rounds the room up, and lets truesize follow while nobody is charged', () => {
    const m = skbTestMachine({ profile })
    const skb = linear(m, 256, 100, 16)
    const before = readSkb(skb)
    const { truesize } = skb
    const room = skbEndOffset(skb)
    skbResetNetworkHeader(skb)
    skbResetTransportHeader(skb)
    expect(pskbExpandHead(m.cpu, skb, 64, 500, atomic(m))).toBe(0)
    expect(readSkb(skb)).toEqual(before)
    expect([skbHeadroom(skb), skb.networkHeader, skb.transportHeader, skb.macHeader]).toEqual([80, 80, 80, 0xffff])
    expect(skb.truesize).toBe(truesize + skbEndOffset(skb) - room)
    skb.sk = 9
    expect(pskbExpandHead(m.cpu, skb, 0, 3000, atomic(m))).toBe(0)
    expect(skb.truesize).toBe(truesize + 1728 - room)
    skb.sk = 0
    m.audit()
    consumeSkb(m.cpu, skb, 'x')
    m.finish()
  })

  it('pskb_expand_head of a clone shares fragments and list, and leaves the other alone', () => {
    const m = skbTestMachine({ profile })
    const skb = linear(m, 200, 50)
    const page = addPage(m, skb, 300)
    const bytes = readSkb(skb)
    const clone = skbClone(m.cpu, skb, atomic(m))!
    expect(pskbExpandHead(m.cpu, clone, 0, 0, atomic(m))).toBe(0)
    expect([skbCloned(skb), skbCloned(clone), m.mem.pages.refcount[page]]).toEqual([false, false, 2])
    m.mem.u8[clone.data >>> 0]! ^= 255
    expect(readSkb(skb)).toEqual(bytes)
    m.audit()
    for (const one of [skb, clone]) consumeSkb(m.cpu, one, 'x')
    m.finish()
  })

  it('skb_unclone_keeptruesize keeps the charge although the block may be larger', () => {
    const m = skbTestMachine({ profile })
    const skb = napiAllocSkb(m.env, m.cpu, 1, 1500)!
    skbPut(skb, 100)
    const clone = skbClone(m.cpu, skb, atomic(m))!
    expect(skbUncloneKeeptruesize(m.cpu, clone, atomic(m))).toBe(0)
    expect([clone.truesize, skbEndOffset(clone), clone.headFrag]).toEqual([skb.truesize, skbEndOffset(skb), false])
    m.audit()
    for (const one of [skb, clone]) consumeSkb(m.cpu, one, 'x')
    m.finish()
  })

  it('skb_copy copies all, pskb_copy shares the pages, skb_copy_expand changes the room', () => {
    const m = skbTestMachine({ profile })
    const skb = linear(m, 200, 60, 20)
    skb.protocol = 0x86dd
    skb.mark = 3
    const page = addPage(m, skb, 1000, 96)
    const bytes = readSkb(skb)
    const full = skbCopy(m.cpu, skb, atomic(m))!
    const shared = pskbCopy(m.cpu, skb, atomic(m))!
    const roomy = skbCopyExpand(m.cpu, skb, 100, 50, atomic(m))!
    expect([full.dataLen, shared.dataLen, roomy.dataLen]).toEqual([0, 1000, 0])
    expect([skbHeadroom(full), skbHeadroom(shared), skbHeadroom(roomy)]).toEqual([20, 20, 100])
    expect(m.mem.pages.refcount[page]).toBe(2)
    for (const copy of [full, shared, roomy]) {
      expect(readSkb(copy)).toEqual(bytes)
      expect([copy.protocol, copy.mark, copy.sk, copy.users]).toEqual([0x86dd, 3, 0, 1])
    }
    m.audit()
    for (const one of [skb, full, shared, roomy]) consumeSkb(m.cpu, one, 'x')
    m.finish()
  })

  it('makes a private skb of a shared one, and private data of a cloned one', () => {
    const m = skbTestMachine({ profile })
    const skb = skbGet(linear(m, 100, 30))
    const own = skbShareCheck(m.cpu, skb, atomic(m))!
    expect([own === skb, skb.users, skbCloned(own)]).toEqual([false, 1, true])
    const data = skbUnshare(m.cpu, own, atomic(m))!
    expect([skbCloned(data), skbCloned(skb)]).toEqual([false, false])
    expect(readSkb(data)).toEqual(readSkb(skb))
    const room = skbReallocHeadroom(m.cpu, skb, 40)!
    expect(skbHeadroom(room)).toBeGreaterThanOrEqual(40)
    expect(readSkb(room)).toEqual(readSkb(skb))
    expect(skbCow(m.cpu, skb, 10)).toBe(0)
    expect(skbHeadroom(skb)).toBe(64)
    m.audit()
    for (const one of [skb, data, room]) consumeSkb(m.cpu, one, 'x')
    m.finish()
  })

  it('loses nothing when the n-th allocation of a copy, an expansion or a pull fails', () => {
    const acts: Record<string, (m: SkbTestMachine, skb: SkBuff) => SkBuff | null | number | boolean> = {
      copy: (m, skb) => skbCopy(m.cpu, skb, atomic(m)),
      pskbCopy: (m, skb) => pskbCopy(m.cpu, skb, atomic(m)),
      clone: (m, skb) => skbClone(m.cpu, skb, atomic(m)),
      expand: (m, skb) => pskbExpandHead(m.cpu, skb, 10, 10, atomic(m)),
      pull: (m, skb) => pskbMayPull(m.cpu, skb, 1200),
      linearize: (m, skb) => skbLinearize(m.cpu, skb),
      trim: (m, skb) => pskbTrim(m.cpu, skb, 700),
      headroom: (m, skb) => skbReallocHeadroom(m.cpu, skb, 100),
    }
    for (const [what, act] of Object.entries(acts))
      for (let n = 1; ; n++) {
        const m = skbTestMachine({ profile })
        const skb = linear(m, 200, 60, 20)
        addPage(m, skb, 1000)
        addPage(m, skb, 500)
        const other = skbClone(m.cpu, skb, atomic(m))!
        const bytes = readSkb(skb)
        m.mem.fault = failNth(n)
        const result = act(m, skb)
        const { failed } = m.mem.fault
        m.mem.fault = null
        m.audit()
        // A slab that gets no large block takes a small one, so a failure may go unnoticed.
        if (result === null || result === false || result === -ERRNO.ENOMEM) {
          expect(failed, what).toBe(1)
          expect(readSkb(skb), what).toEqual(bytes)
        }
        expect(readSkb(other), what).toEqual(bytes)
        if (typeof result === 'object' && result !== null) consumeSkb(m.cpu, result, 'x')
        for (const one of [skb, other]) consumeSkb(m.cpu, one, 'x')
        m.finish()
        if (failed === 0) break
        expect(n).toBeLessThan(10)
      }
  })

  it('pulls, linearizes, trims and pads pieces without changing a byte', () => {
    const m = skbTestMachine({ profile })
    const skb = linear(m, 100, 40)
    addPage(m, skb, 300, 10)
    addPage(m, skb, 200, 20, 5)
    const bytes = readSkb(skb)
    expect(pskbMayPull(m.cpu, skb, 140)).toBe(true)
    expect([skbHeadlen(skb), nrFrags(skb), fragOff(skb, 0), fragLen(skb, 0)]).toEqual([140, 2, 110, 200])
    expect(readSkb(skb)).toEqual(bytes)
    expect(pskbMayPull(m.cpu, skb, 541)).toBe(false)
    expect(pskbTrim(m.cpu, skb, 400)).toBe(0)
    expect(readSkb(skb)).toEqual(bytes.slice(0, 400))
    expect(skbLinearize(m.cpu, skb)).toBe(0)
    expect([nrFrags(skb), skb.dataLen]).toEqual([0, 0])
    expect(readSkb(skb)).toEqual(bytes.slice(0, 400))
    expect(skbPutPadto(m.cpu, skb, 450)).toBe(0)
    expect([...readSkb(skb).slice(400)]).toEqual(Array(50).fill(0))
    m.audit()
    consumeSkb(m.cpu, skb, 'x')
    m.finish()
  })

  it('skb_condense pulls in what fits and makes truesize that of the head', () => {
    const m = skbTestMachine({ profile })
    const skb = linear(m, 700, 40)
    addPage(m, skb, 300)
    const bytes = readSkb(skb)
    const grown = skb.truesize
    skbCondense(m.cpu, skb)
    expect([skb.truesize, nrFrags(skb), skb.dataLen]).toEqual([grown - 4096, 0, 0])
    expect(readSkb(skb)).toEqual(bytes)
    addPage2(m, skb)
    const kept = skb.truesize
    skbCondense(m.cpu, skb)
    expect(skb.truesize).toBe(kept)
    consumeSkb(m.cpu, skb, 'x')
    m.finish()
  })
})

/** A page more than the tailroom holds. */
function addPage2(m: SkbTestMachine, skb: SkBuff): void {
  addPage(m, skb, 4096)
}

describe('skb_try_coalesce', () => {
  const out = new CoalesceResult()

  it('copies into the tailroom at no cost: 1 byte then 10 bytes', () => {
    const m = skbTestMachine()
    const to = linear(m, 256, 1)
    const from = linear(m, 256, 10)
    const bytes = [...readSkb(to), ...readSkb(from)]
    expect(skbTryCoalesce(m.cpu, to, from, out)).toBe(true)
    expect([out.fragstolen, out.deltaTruesize, to.truesize]).toEqual([false, 0, 832])
    expect([...readSkb(to)]).toEqual(bytes)
    kfreeSkbPartial(m.cpu, from, out.fragstolen, 'x')
    consumeSkb(m.cpu, to, 'x')
    m.finish()
  })

  it('moves pages: the delta is all but the empty head', () => {
    const m = skbTestMachine()
    const to = linear(m, 0, 0)
    const from = linear(m, 0, 0)
    // As TCP over loopback has them: byte-exact truesize.
    for (const [skb, count] of [
      [to, 300],
      [from, 410],
    ] as const) {
      addPage(m, skb, count)
      skb.truesize += count - 4096
    }
    const bytes = [...readSkb(to), ...readSkb(from)]
    expect(skbTryCoalesce(m.cpu, to, from, out)).toBe(true)
    expect([out.fragstolen, out.deltaTruesize, to.truesize, nrFrags(to), nrFrags(from)]).toEqual([
      false,
      410,
      832 + 710,
      2,
      0,
    ])
    expect([...readSkb(to)]).toEqual(bytes)
    // The emptied skb may not be audited: its lengths still tell of what it was.
    kfreeSkbPartial(m.cpu, from, out.fragstolen, 'x')
    m.audit()
    consumeSkb(m.cpu, to, 'x')
    m.finish()
  })

  it('steals a head that is a page fragment, and then only the descriptor is left', () => {
    const m = skbTestMachine()
    const to = linear(m, 0, 0)
    addPage(m, to, 100)
    const from = napiAllocSkb(m.env, m.cpu, 1, 1500)!
    pattern(m, skbPut(from, 1400), 1400, 9)
    const bytes = [...readSkb(to), ...readSkb(from)]
    const { truesize } = from
    expect(skbTryCoalesce(m.cpu, to, from, out)).toBe(true)
    expect([out.fragstolen, out.deltaTruesize]).toEqual([true, truesize - 256])
    const seen: string[] = []
    m.trace.kmemCacheFree = (_c, site, _a, cache) => seen.push(`${site} ${cache}`)
    kfreeSkbPartial(m.cpu, from, out.fragstolen, 'tcp_add_backlog')
    expect(seen).toEqual(['tcp_add_backlog skbuff_head_cache'])
    expect([...readSkb(to)]).toEqual(bytes)
    m.audit()
    consumeSkb(m.cpu, to, 'x')
    m.finish()
  })

  it('takes references when the other is cloned', () => {
    const m = skbTestMachine()
    const to = linear(m, 0, 0)
    addPage(m, to, 100)
    const from = linear(m, 0, 0)
    const page = addPage(m, from, 500)
    const clone = skbClone(m.cpu, from, atomic(m))!
    expect(skbTryCoalesce(m.cpu, to, from, out)).toBe(true)
    expect([m.mem.pages.refcount[page], nrFrags(from)]).toEqual([2, 1])
    kfreeSkbPartial(m.cpu, from, out.fragstolen, 'x')
    m.audit()
    for (const one of [to, clone]) consumeSkb(m.cpu, one, 'x')
    m.finish()
  })

  it('refuses in all the ways in which the kernel does', () => {
    const m = skbTestMachine()
    const page = (): SkBuff => {
      const skb = linear(m, 0, 0)
      addPage(m, skb, 100)
      return skb
    }
    const tries: [string, SkBuff, SkBuff][] = []
    const cloned = page()
    const itsClone = skbClone(m.cpu, cloned, atomic(m))!
    tries.push(['to is cloned', cloned, page()])
    const recycled = page()
    recycled.ppRecycle = true
    tries.push(['pp_recycle differs', page(), recycled])
    const unreadable = page()
    unreadable.unreadable = true
    tries.push(['readability differs', page(), unreadable])
    tries.push(['a slab head cannot be stolen', page(), linear(m, 1000, 900)])
    const full = linear(m, 0, 0)
    for (let i = 0; i < 17; i++) addPage(m, full, 10)
    tries.push(['no slot', full, page()])
    for (const [why, to, from] of tries) {
      const { truesize, len } = to
      expect(skbTryCoalesce(m.cpu, to, from, out), why).toBe(false)
      expect([to.truesize, to.len], why).toEqual([truesize, len])
      from.ppRecycle = false
      for (const one of [to, from]) consumeSkb(m.cpu, one, 'x')
    }
    consumeSkb(m.cpu, itsClone, 'x')
    m.finish()
  })
})

describe('splitting, shifting and segmenting', () => {
  it('skb_split cuts at every byte, and both halves make the whole', () => {
    for (let cut = 0; cut <= 90; cut += 5) {
      const m = skbTestMachine()
      const skb = linear(m, 100, 30)
      addPage(m, skb, 25, 3)
      addPage(m, skb, 35, 7, 4)
      const bytes = readSkb(skb)
      const rest = allocSkb(m.env, m.cpu, 100, atomic(m))!
      skbSplit(m.cpu, skb, rest, cut)
      m.audit()
      expect([skb.len, rest.len]).toEqual([cut, 90 - cut])
      expect([...readSkb(skb), ...readSkb(rest)]).toEqual([...bytes])
      for (const one of [skb, rest]) kfreeSkb(m.cpu, one, 'NOT_SPECIFIED', 'x')
      m.finish()
    }
  })

  it('skb_shift moves bytes between paged skbs, all or nothing', () => {
    const rng = new Prng(5)
    for (let round = 0; round < 60; round++) {
      const m = skbTestMachine()
      const make = (): SkBuff => {
        const skb = linear(m, 0, 0)
        for (let i = 1 + rng.below(4); i > 0; i--) addPage(m, skb, 1 + rng.below(500), rng.below(100), rng.below(255))
        return skb
      }
      const tgt = make()
      const skb = make()
      const clone = rng.below(2) === 0 ? skbClone(m.cpu, skb, atomic(m)) : null
      const all = [...readSkb(tgt), ...readSkb(skb)]
      const tgtLen = tgt.len
      const bytes = 1 + rng.below(skb.len)
      const charged = tgt.truesize + skb.truesize
      expect(skbShift(m.cpu, tgt, skb, bytes)).toBe(bytes)
      expect([tgt.len, [...readSkb(tgt), ...readSkb(skb)]]).toEqual([tgtLen + bytes, all])
      expect([tgt.truesize + skb.truesize, tgt.ipSummed]).toEqual([charged, CHECKSUM_PARTIAL])
      if (skb.len > 0) m.audit()
      for (const one of [tgt, skb, clone]) if (one !== null) consumeSkb(m.cpu, one, 'x')
      m.finish()
    }
  })

  it('skb_segment makes packets of gso_size, sharing pages where it may and copying where not', () => {
    for (const sg of [true, false])
      for (const head of [0, 700]) {
        const m = skbTestMachine()
        const skb = linear(m, 1000, 54 + head)
        addPage(m, skb, 3000, 100)
        addPage(m, skb, 1500, 7, 8)
        const bytes = readSkb(skb)
        skb.protocol = 0x0800
        skbResetMacHeader(skb)
        skbPull(skb, 54)
        skbResetTransportHeader(skb)
        setGsoSize(skb, 1448)
        expect(skbIsGso(skb)).toBe(true)
        const first = skbSegment(m.cpu, skb, { sg, csum: sg }) as SkBuff
        const payload: number[] = []
        const sizes: number[] = []
        for (let seg: SkBuff | null = first; seg !== null; seg = seg.next === 0 ? null : m.env.skbs[seg.next]!) {
          const segBytes = [...readSkb(seg)]
          expect(segBytes.slice(0, 54)).toEqual([...bytes.slice(0, 54)])
          payload.push(...segBytes.slice(54))
          sizes.push(seg.len - 54)
          expect([seg.protocol, skbIsGso(seg), sg || seg.dataLen === 0]).toEqual([0x0800, false, true])
        }
        expect(payload).toEqual([...bytes.slice(54)])
        const total = head + 4500
        expect(sizes).toEqual(
          Array.from({ length: Math.ceil(total / 1448) }, (_, i) => Math.min(1448, total - i * 1448)),
        )
        m.audit()
        for (let seg: SkBuff | null = first; seg !== null; ) {
          const next: SkBuff | null = seg.next === 0 ? null : m.env.skbs[seg.next]!
          seg.next = 0
          consumeSkb(m.cpu, seg, 'x')
          seg = next
        }
        consumeSkb(m.cpu, skb, 'x')
        m.finish()
      }
  })

  it('skb_segment shares the heads of a fragment list when they are page fragments', () => {
    const m = skbTestMachine()
    const skb = linear(m, 200, 54)
    const list = [1, 2, 3].map((seed) => {
      const one = napiAllocSkb(m.env, m.cpu, 1, 1500)!
      pattern(m, skbPut(one, 1448), 1448, seed)
      return one
    })
    list.forEach((one, i) => {
      one.next = list[i + 1]?.id ?? 0
    })
    setFragList(skb, list[0]!.id)
    skb.len += 3 * 1448
    skb.dataLen = 3 * 1448
    const bytes = [...readSkb(skb)]
    skbResetMacHeader(skb)
    skbPull(skb, 54)
    setGsoSize(skb, 1000)
    const payload: number[] = []
    let seg: SkBuff | null = skbSegment(m.cpu, skb, { sg: true, csum: true }) as SkBuff
    m.audit()
    while (seg !== null) {
      payload.push(...readSkb(seg).slice(54))
      const next: SkBuff | null = seg.next === 0 ? null : m.env.skbs[seg.next]!
      seg.next = 0
      consumeSkb(m.cpu, seg, 'x')
      seg = next
    }
    expect(payload).toEqual(bytes.slice(54))
    consumeSkb(m.cpu, skb, 'x')
    m.finish()
  })

  it('skb_segment leaves nothing behind when it runs out of memory', () => {
    for (let n = 1; n < 8; n++) {
      const m = skbTestMachine()
      const skb = linear(m, 200, 54)
      addPage(m, skb, 4000)
      skbResetMacHeader(skb)
      skbPull(skb, 54)
      setGsoSize(skb, 1448)
      const { len } = skb
      m.mem.fault = failNth(n)
      const result = skbSegment(m.cpu, skb, { sg: true, csum: true })
      const { failed } = m.mem.fault
      m.mem.fault = null
      expect(skb.len).toBe(len)
      if (failed > 0) expect(result).toBe(-ERRNO.ENOMEM)
      else
        for (let seg: SkBuff | null = result as SkBuff; seg !== null; ) {
          const next: SkBuff | null = seg.next === 0 ? null : m.env.skbs[seg.next]!
          seg.next = 0
          consumeSkb(m.cpu, seg, 'x')
          seg = next
        }
      consumeSkb(m.cpu, skb, 'x')
      m.finish()
    }
  })
})

describe('fragments', () => {
  it('skb_append_pagefrags joins neighbours and refuses beyond its limit', () => {
    const m = skbTestMachine()
    const skb = linear(m, 0, 0)
    const page = allocPages(m.mem, m.cpu, atomic(m), 0, -1, 'test')
    expect(skbAppendPagefrags(skb, page, 0, 100, 1)).toBe(0)
    expect(skbAppendPagefrags(skb, page, 100, 50, 1)).toBe(0)
    expect([nrFrags(skb), fragLen(skb, 0), fragPfn(skb, 0), m.mem.pages.refcount[page]]).toEqual([1, 150, page, 2])
    expect(skbAppendPagefrags(skb, page, 200, 50, 1)).toBe(-ERRNO.EMSGSIZE)
    skb.len = 150
    skb.dataLen = 150
    consumeSkb(m.cpu, skb, 'x')
    expect(m.mem.pages.refcount[page]).toBe(1)
  })

  it('alloc_skb_with_frags takes large pages for the bytes, each kernel in its way', () => {
    const error = new AllocSkbError()
    const shape = (profile: string, dataLen: number, order: number) => {
      const m = skbTestMachine({ profile })
      const skb = allocSkbWithFrags(m.env, m.cpu, 100, dataLen, order, m.mem.gfp.GFP_KERNEL, error)
      if (skb === null) return error.errno
      const frags = Array.from({ length: nrFrags(skb) }, (_, i) => fragLen(skb, i))
      const { truesize } = skb
      kfreeSkb(m.cpu, skb, 'NOT_SPECIFIED', 'x')
      m.finish()
      return [truesize, ...frags]
    }
    const [now, then] = KERNELS as [string, string]
    expect(shape(now, 40000, 3)).toEqual([832 + 32768 + 8192, 32768, 7232])
    expect(shape(then, 40000, 3)).toEqual([768 + 40960, 32768, 7232])
    // Three pages: 6.18 takes two of them at once, and so does 6.1.
    expect(shape(now, 10000, 3)).toEqual([832 + 12288, 8192, 1808])
    expect(shape(then, 10000, 3)).toEqual([768 + 12288, 8192, 1808])
    expect(shape(now, 20000, 0)).toEqual([832 + 20480, 4096, 4096, 4096, 4096, 3616])
    expect(shape(now, 18 * 4096, 0)).toBe(-ERRNO.EMSGSIZE)
    expect(shape(then, 18 * 4096, 3)).toBe(-ERRNO.EMSGSIZE)
    expect((shape(now, 18 * 4096, 3) as number[]).length).toBe(4)
  })

  it('alloc_skb_with_frags gives everything back when the n-th allocation fails', () => {
    for (const profile of KERNELS)
      for (let n = 1; ; n++) {
        const m = skbTestMachine({ profile })
        const error = new AllocSkbError()
        m.mem.fault = failNth(n)
        const skb = allocSkbWithFrags(m.env, m.cpu, 300, 50000, 2, atomic(m), error)
        const { failed } = m.mem.fault
        m.mem.fault = null
        if (skb === null) expect(error.errno).toBe(-ERRNO.ENOBUFS)
        else kfreeSkb(m.cpu, skb, 'NOT_SPECIFIED', 'x')
        m.finish()
        if (failed === 0) break
        expect(n).toBeLessThan(40)
      }
  })
})

/** RFC 1071, as it is written there. */
function naiveSum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! | ((bytes[i + 1] ?? 0) << 8)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

describe('the Internet checksum', () => {
  it('agrees with the definition at every length and alignment', () => {
    const m = skbTestMachine()
    const page = allocPages(m.mem, m.cpu, atomic(m), 0, -1, 'test')
    const at = page << 12
    const rng = new Prng(99)
    for (let i = 0; i < 4096; i++) m.mem.u8[at + i] = i < 100 ? 255 : rng.next()
    for (let start = 0; start < 9; start++)
      for (const len of [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 40, 63, 64, 100, 1399, 1400, 4000]) {
        const sum = csumFold(csumPartial(m.mem, (at + start) as Addr, len, 0))
        expect(sum, `start ${start} len ${len}`).toBe(naiveSum(m.mem.u8.subarray(at + start, at + start + len)))
      }
  })

  it('is the same whether the bytes lie together or in odd pieces, and when it is taken while copying', () => {
    const m = skbTestMachine()
    const skb = linear(m, 300, 33)
    addPage(m, skb, 101, 5)
    addPage(m, skb, 77, 2, 3)
    const bytes = readSkb(skb)
    const page = allocPages(m.mem, m.cpu, atomic(m), 0, -1, 'test')
    for (const [from, len] of [
      [0, 211],
      [1, 210],
      [32, 100],
      [33, 101],
      [40, 150],
      [210, 1],
      [5, 0],
    ]) {
      expect(csumFold(skbChecksum(skb, from!, len!, 0))).toBe(naiveSum(bytes.subarray(from!, from! + len!)))
      expect(csumFold(skbCopyAndCsumBits(skb, from!, (page << 12) as Addr, len!))).toBe(
        naiveSum(bytes.subarray(from!, from! + len!)),
      )
      expect(m.mem.u8.slice(page << 12, (page << 12) + len!)).toEqual(bytes.slice(from!, from! + len!))
    }
    consumeSkb(m.cpu, skb, 'x')
  })
})
