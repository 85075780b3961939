import { ERRNO, Prng } from '@netmem/base'
import { failNever, failNth, IovIter, iovIterInit, userAlloc, userFree, userWrite } from '@netmem/memory'
import { auditMemory } from '@netmem/memory/testing'
import { PageFrag, pageFragRelease } from '@netmem/page-frag'
import { auditSock, testSock, testSockets } from '@netmem/sockmem/testing'
import { describe, expect, it } from 'vitest'
import {
  MAX_MSG_FRAGS,
  SkMsg,
  skMsgAlloc,
  skMsgClone,
  skMsgFree,
  skMsgFull,
  skMsgMemcopyFromIter,
  skMsgRead,
  skMsgTrim,
  skMsgZerocopyFromIter,
} from './sk-msg.js'

function machine() {
  const t = testSockets()
  const sk = testSock(t, t.stream)
  sk.allocation = t.mem.gfp.GFP_KERNEL
  const charged: SkMsg[] = []
  // What the messages hold is charged and in no queue.
  t.stream.uncharged = () => -charged.reduce((sum, msg) => sum + msg.size, 0)
  return { ...t, sk, charged, own: new PageFrag(), iter: new IovIter(), pages: new Int32Array(MAX_MSG_FRAGS) }
}

describe('a message', () => {
  it.each([1, 2, 3])('is the bytes that were put into it, and charged for exactly them (seed %i)', (seed) => {
    const t = machine()
    const { sk, cpu, task, mem } = t
    const prng = new Prng(seed)
    const user = userAlloc(mem, cpu, 1 << 16)!
    const bytes = Uint8Array.from({ length: 1 << 16 }, () => prng.below(256))
    userWrite(mem, user, 0, bytes)
    const [room, text] = [new SkMsg(), new SkMsg()]
    t.charged.push(room, text)
    let naive: number[] = []
    const out = new Uint8Array(1 << 17)
    const check = (): void => {
      auditSock(sk)
      auditMemory(mem)
      expect(skMsgRead(sk, text, 0, out)).toBe(text.size)
      expect([...out.subarray(0, text.size)]).toEqual(naive)
      expect(text.lens.subarray(0, text.end).reduce((sum, len) => sum + len, 0)).toBe(text.size)
    }
    for (let i = 0; i < 300; i += 1) {
      const from = prng.below(1 << 15)
      const size = 1 + prng.below(3000)
      iovIterInit(t.iter, user, from, size)
      const what = prng.below(5)
      if (what === 0) {
        const keep = prng.below(naive.length + 1)
        skMsgTrim(cpu, sk, text, keep)
        naive = naive.slice(0, keep)
      } else if (what === 1 || naive.length > 20_000) {
        skMsgFree(cpu, sk, text)
        skMsgFree(cpu, sk, room)
        naive = []
      } else if (what === 2 && text.end < MAX_MSG_FRAGS - 3) {
        expect(skMsgZerocopyFromIter(sk, t.iter, text, size, t.pages)).toBe(0)
        naive.push(...bytes.subarray(from, from + size))
        // Copies go on behind lent pages only in a new message, as in a record.
        check()
        skMsgFree(cpu, sk, text)
        naive = []
      } else if (!skMsgFull(text)) {
        // As a record does it: room for all, then the text where its ciphertext will be.
        expect(skMsgAlloc(cpu, task, sk, room, naive.length + size, t.own)).toBe(0)
        if (skMsgClone(sk, text, room, naive.length, size) === 0) {
          expect(skMsgMemcopyFromIter(cpu, sk, t.iter, text, size)).toBeGreaterThan(0)
          naive.push(...bytes.subarray(from, from + size))
        } else skMsgTrim(cpu, sk, text, naive.length)
      }
      check()
    }
    skMsgFree(cpu, sk, text)
    skMsgFree(cpu, sk, room)
    pageFragRelease(mem, cpu, task.taskFrag, 'test')
    auditSock(sk, true)
    for (const pfn of user.pfns) expect(mem.pages.refcount[mem.pages.head[pfn]!]).toBe(1)
    userFree(mem, cpu, user)
    auditMemory(mem)
  })

  it('is as it was when a page for more of it cannot be had', () => {
    const t = machine()
    const { sk, cpu, task, mem } = t
    const msg = new SkMsg()
    t.charged.push(msg)
    expect(skMsgAlloc(cpu, task, sk, msg, 100, t.own)).toBe(0)
    // A megabyte takes many pages; the first of them that fails ends it.
    mem.fault = failNth(1)
    const first = skMsgAlloc(cpu, task, sk, msg, 60_000, t.own)
    mem.fault = failNever()
    if (first !== 0) {
      expect(first).toBe(-ERRNO.ENOMEM)
      expect(msg.size).toBe(100)
    }
    auditSock(sk)
    skMsgFree(cpu, sk, msg)
    pageFragRelease(mem, cpu, task.taskFrag, 'test')
    auditSock(sk, true)
    auditMemory(mem)
  })

  it('takes user pages up to its number of pieces, and gives them back when they are too many', () => {
    const t = machine()
    const { sk, cpu, mem } = t
    const user = userAlloc(mem, cpu, 32 * 4096)!
    const msg = new SkMsg()
    t.charged.push(msg)
    iovIterInit(t.iter, user, 0, 18 * 4096)
    expect(skMsgZerocopyFromIter(sk, t.iter, msg, 18 * 4096, t.pages)).toBe(-ERRNO.EFAULT)
    expect(t.iter.count).toBe(18 * 4096)
    skMsgTrim(cpu, sk, msg, 0)
    expect(msg.end).toBe(0)
    iovIterInit(t.iter, user, 0, 17 * 4096)
    expect(skMsgZerocopyFromIter(sk, t.iter, msg, 17 * 4096, t.pages)).toBe(0)
    expect(skMsgFull(msg)).toBe(true)
    skMsgFree(cpu, sk, msg)
    for (const pfn of user.pfns) expect(mem.pages.refcount[mem.pages.head[pfn]!]).toBe(1)
    userFree(mem, cpu, user)
    auditSock(sk, true)
    auditMemory(mem)
  })
})
