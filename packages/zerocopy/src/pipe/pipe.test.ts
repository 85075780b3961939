import { ERRNO, Prng } from '@netmem/base'
import { failNth } from '@netmem/memory'
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { pattern, TestFiles } from '../splice/test-files.js'
import { getPipeInfo } from './pipe-io.js'
import { F_GETPIPE_SZ, F_SETPIPE_SZ } from './pipe-size.js'

const PAGE = 4096

/** A pipe as a list of pieces, the way one would explain it. */
class NaivePipe {
  pieces: { bytes: number[]; start: number; merges: boolean }[] = []
  slots = 16

  write(bytes: Uint8Array): number {
    let at = 0
    const odd = bytes.length % PAGE
    const last = this.pieces.at(-1)
    if (last !== undefined && odd !== 0 && last.merges && last.start + last.bytes.length + odd <= PAGE) {
      last.bytes.push(...bytes.subarray(0, odd))
      at = odd
    }
    for (; at < bytes.length && this.pieces.length < this.slots; at += PAGE)
      this.pieces.push({ bytes: [...bytes.subarray(at, at + PAGE)], start: 0, merges: true })
    return at === 0 && bytes.length > 0 ? -ERRNO.EAGAIN : Math.min(at, bytes.length)
  }

  read(count: number): number[] | number {
    const out: number[] = []
    while (out.length < count && this.pieces.length > 0) {
      const first = this.pieces[0]!
      const taken = first.bytes.splice(0, count - out.length)
      first.start += taken.length
      out.push(...taken)
      if (first.bytes.length === 0) this.pieces.shift()
    }
    return out.length === 0 && count > 0 ? -ERRNO.EAGAIN : out
  }
}

describe('a pipe', () => {
  it('holds and gives what the naive model holds and gives, at every step', () => {
    for (let seed = 1; seed <= 8; seed++) {
      const t = new TestFiles()
      const random = new Prng(seed)
      const { read, write } = t.pipe()!
      const naive = new NaivePipe()
      for (let step = 0; step < 60; step++) {
        const size = [1, 100, 904, PAGE - 1, PAGE, PAGE + 1, 5000, 20_000, 100_000][random.below(9)]!
        const what = `seed ${seed} step ${step} size ${size}`
        if (random.below(2) === 0) {
          const bytes = pattern(size, random.below(1000))
          expect(t.write(write, bytes), what).toBe(naive.write(bytes))
        } else {
          const got = t.read(read, size)
          expect(typeof got === 'number' ? got : [...got], what).toEqual(naive.read(size))
        }
        t.audit()
      }
      t.finish()
    }
  })

  it('keeps two pages for the next write, and older kernels one', () => {
    for (const [profile, spare] of [
      ['linux-6.18-x86_64', 2],
      ['linux-6.1-x86_64', 1],
    ] as const) {
      const t = new TestFiles(profile)
      const { read, write } = t.pipe()!
      t.write(write, pattern(3 * PAGE))
      t.read(read, 3 * PAGE)
      expect(getPipeInfo(read)!.tmpPage.filter((pfn) => pfn !== 0)).toHaveLength(spare)
      t.finish()
    }
  })

  it('ends for readers when nobody can write, and breaks for writers when nobody can read', () => {
    const t = new TestFiles()
    const first = t.pipe()!
    t.close(first.write)
    expect(t.read(first.read, 10)).toEqual(new Uint8Array(0))
    const second = t.pipe()!
    t.close(second.read)
    expect(t.write(second.write, pattern(1))).toBe(-ERRNO.EPIPE)
    t.finish()
  })
})

describe('F_SETPIPE_SZ', () => {
  const size = (t: TestFiles, arg: number): number => {
    const { write } = t.pipe()!
    return write.fop.fcntl!(t.cpu, t.task, write, F_SETPIPE_SZ, arg)
  }

  it('rounds up to a power of two pages and keeps what is in the pipe', () => {
    const t = new TestFiles()
    const { read, write } = t.pipe()!
    t.write(write, pattern(20_000))
    const fcntl = (cmd: number, arg: number): number => write.fop.fcntl!(t.cpu, t.task, write, cmd, arg)
    expect(fcntl(F_SETPIPE_SZ, 16_384)).toBe(-ERRNO.EBUSY)
    expect(fcntl(F_SETPIPE_SZ, 20_480)).toBe(32_768)
    expect(fcntl(F_GETPIPE_SZ, 0)).toBe(32_768)
    expect(t.read(read, 30_000)).toEqual(pattern(20_000))
    t.finish()
  })

  it('asks for CAP_SYS_RESOURCE above fs.pipe-max-size', () => {
    const t = new TestFiles()
    expect(size(t, (1 << 20) + 1)).toBe(-ERRNO.EPERM)
    t.task.caps |= CAP_SYS_RESOURCE
    expect(size(t, (1 << 20) + 1)).toBe(2 << 20)
    t.finish()
  })

  it('holds an ordinary user to the soft and the hard limit, and shares the count among his pipes', () => {
    const t = new TestFiles()
    t.task.caps &= ~CAP_SYS_ADMIN
    t.task.uid = 1000
    t.vfs.pipeUserPagesSoft[0] = 40
    t.vfs.pipeUserPagesHard[0] = 50
    expect(getPipeInfo(t.pipe()!.read)!.maxUsage).toBe(16)
    expect(getPipeInfo(t.pipe()!.read)!.maxUsage).toBe(16)
    // Over the soft limit a new pipe is small, and none grows.
    expect(getPipeInfo(t.pipe()!.read)!.maxUsage).toBe(2)
    expect(size(t, 16 * PAGE)).toBe(-ERRNO.EPERM)
    for (let i = 0; i < 7; i++) expect(t.pipe()).not.toBe(null)
    expect(t.vfs.user(1000).pipeBufs).toBe(50)
    expect(t.pipe()).toBe(null)
    // Another user has an account of his own.
    t.task.uid = 1001
    expect(getPipeInfo(t.pipe()!.read)!.maxUsage).toBe(16)
    t.audit()
    t.finish()
  })
})

it('lets nothing go astray whichever allocation fails', () => {
  for (let n = 1; n < 30; n++) {
    const t = new TestFiles()
    t.mem.fault = failNth(n)
    const ends = t.pipe()
    if (ends !== null) {
      const { read, write } = ends
      t.write(write, pattern(3 * PAGE + 5))
      write.fop.fcntl!(t.cpu, t.task, write, F_SETPIPE_SZ, 1 << 20)
      t.write(write, pattern(50_000))
      t.read(read, 20_000)
    }
    t.audit()
    t.finish()
  }
})
