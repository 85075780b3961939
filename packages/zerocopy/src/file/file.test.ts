import { ERRNO, Prng } from '@netmem/base'
import { failNth } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import { pattern, TestFiles } from '../splice/test-files.js'
import { Loff, O_APPEND, O_RDONLY, O_RDWR, O_WRONLY, rwVerifyArea } from './file.js'
import { filemapWriteback, invalidateMappingPages, truncateInode } from './inode.js'
import { getInitRaSize, getNextRaSize } from './readahead.js'
import { diskInodeCreate, EXT4_MAX_BYTES, inodeOf, inodeOpen } from './regular.js'

const PAGE = 4096

describe('a file on a disk', () => {
  it('reads and writes what an array would, at every position, and keeps it when its pages are dropped', () => {
    for (let seed = 1; seed <= 8; seed++) {
      const t = new TestFiles()
      const random = new Prng(seed)
      const content = pattern(random.below(40_000))
      const file = t.file(content, O_RDWR)
      const naive = [...content]
      for (let step = 0; step < 50; step++) {
        const at = random.below(60_000)
        const size = [1, 100, PAGE, PAGE + 1, 10_000][random.below(5)]!
        const choice = random.below(4)
        const what = `seed ${seed} step ${step} at ${at} size ${size}`
        if (choice === 0) {
          const bytes = pattern(size, step)
          expect(t.write(file, bytes, new Loff(at)), what).toBe(size)
          while (naive.length < at + size) naive.push(0)
          naive.splice(at, size, ...bytes)
        } else if (choice === 1) {
          if (random.below(2) === 0) filemapWriteback(inodeOf(file))
          invalidateMappingPages(t.cpu, inodeOf(file))
        } else expect([...(t.read(file, size, new Loff(at)) as Uint8Array)], what).toEqual(naive.slice(at, at + size))
        expect(inodeOf(file).size).toBe(naive.length)
        t.audit(true)
      }
      t.finish()
    }
  })

  it('appends wherever the position is, and refuses what no file may hold', () => {
    const t = new TestFiles()
    const file = t.file(pattern(10), O_WRONLY | O_APPEND)
    expect(t.write(file, pattern(5), new Loff(2))).toBe(5)
    expect(inodeOf(file).size).toBe(15)
    const other = t.file(pattern(10), O_RDWR)
    expect(t.write(other, pattern(5), new Loff(EXT4_MAX_BYTES))).toBe(-ERRNO.EFBIG)
    expect(t.write(other, pattern(5), new Loff(EXT4_MAX_BYTES - 2))).toBe(2)
    t.finish()
  })

  it('brings in more than was asked when it is read in order, and only that when it is not', () => {
    const t = new TestFiles()
    const file = t.file(pattern(100 * PAGE), O_RDONLY)
    const { mapping } = inodeOf(file)
    t.read(file, PAGE)
    expect(mapping.nrPages).toBe(4)
    t.read(file, PAGE)
    const ahead = mapping.nrPages
    expect(ahead).toBeGreaterThan(4)
    t.read(file, PAGE, new Loff(70 * PAGE))
    expect(mapping.nrPages).toBe(ahead + 1)
    t.finish()
  })

  it('lets a reader go on with a page that a truncate took from the file', () => {
    const t = new TestFiles()
    const file = t.file(pattern(3 * PAGE), O_RDWR)
    t.read(file, 3 * PAGE)
    truncateInode(t.cpu, inodeOf(file), PAGE + 10)
    expect(t.read(file, 100, new Loff(PAGE + 5))).toEqual(pattern(5, PAGE + 5))
    // What is written behind the end shows zeros before it, not the bytes that were cut off.
    t.write(file, pattern(1), new Loff(PAGE + 20))
    expect(t.read(file, 10, new Loff(PAGE + 10))).toEqual(new Uint8Array(10))
    t.finish()
  })
})

describe('a memfd', () => {
  it('reads zeros where nothing was written, and takes no page for them', () => {
    const t = new TestFiles()
    const file = t.memfd(50_000)
    expect(t.read(file, 10_000)).toEqual(new Uint8Array(10_000))
    expect(inodeOf(file).mapping.nrPages).toBe(0)
    t.finish()
  })
})

describe('readahead windows', () => {
  it('begin at two to four times what is read and double up to 32 pages', () => {
    expect([1, 2, 3, 8, 9, 32].map((pages) => getInitRaSize(pages, 32))).toEqual([4, 4, 8, 16, 32, 32])
    expect([1, 2, 16, 17, 32].map((pages) => getNextRaSize(pages, 32))).toEqual([4, 4, 32, 32, 32])
  })
})

it('refuses positions and counts that do not fit', () => {
  expect(rwVerifyArea(0, 10)).toBe(0)
  for (const [pos, count] of [
    [-1, 10],
    [0, -1],
    [2 ** 63, 1],
    [2 ** 62, 2 ** 62],
  ] as const)
    expect(rwVerifyArea(pos, count)).toBe(-ERRNO.EINVAL)
  expect(rwVerifyArea(0, 2 ** 63)).toBe(0)
})

it('lets nothing go astray whichever allocation fails', () => {
  for (let n = 1; n < 25; n++) {
    const t = new TestFiles()
    t.mem.fault = failNth(n)
    const file = t.file(pattern(30_000), O_RDWR)
    t.read(file, 20_000)
    t.write(file, pattern(40_000))
    const again = inodeOpen(diskInodeCreate(t.vfs, pattern(100)), O_RDONLY)
    again.fop.release!(t.cpu, t.task, again)
    t.audit(true)
    t.finish()
  }
})
