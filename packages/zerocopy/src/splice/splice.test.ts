import { ERRNO, Prng } from '@netmem/base'
import { failNth, iovIterInit, userWrite } from '@netmem/memory'
import { describe, expect, it } from 'vitest'
import { deviceOpen } from '../file/char-devices.js'
import { type File, Loff, O_APPEND, O_RDONLY, O_RDWR, O_WRONLY } from '../file/file.js'
import { inodeOf } from '../file/regular.js'
import { pipeOccupancy, pipeSlot } from '../pipe/pipe.js'
import { bufFlags, PIPE_BUF_FLAG_GIFT, pipeBufTrySteal } from '../pipe/pipe-buffer.js'
import { pipeBytes } from '../pipe/pipe-info.js'
import { getPipeInfo, type PipeEnds } from '../pipe/pipe-io.js'
import { sysSpliceFiles, sysTeeFiles } from './do-splice.js'
import { doSendfile } from './sendfile.js'
import { SPLICE_F_GIFT } from './splice-flags.js'
import { pattern, TestFiles } from './test-files.js'
import { sysVmspliceFile } from './vmsplice.js'

const PAGE = 4096

const splice = (
  t: TestFiles,
  from: File,
  to: File,
  len: number,
  offIn: Loff | null = null,
  offOut: Loff | null = null,
) => sysSpliceFiles(t.vfs, t.cpu, t.task, from, offIn, to, offOut, len, 0)
const sendfile = (t: TestFiles, out: File, from: File, offset: Loff | null, count: number): number =>
  doSendfile(t.vfs, t.cpu, t.task, out, from, offset, count)

describe('splice', () => {
  it('lends the pages of a file to a pipe without a copy, sixteen at a time', () => {
    const t = new TestFiles()
    const file = t.file(pattern(200_000), O_RDONLY)
    const { read, write } = t.pipe()!
    expect(splice(t, file, write, 200_000, new Loff(100))).toBe(16 * PAGE - 100)
    expect(t.copied).toBe(0)
    t.audit(true)
    // The file is closed, and the pipe still has its bytes.
    t.close(file)
    expect(t.read(read, 100_000)).toEqual(pattern(16 * PAGE - 100, 100))
    t.finish()
  })

  it('moves and splits slots between pipes as a list of pieces would', () => {
    for (let seed = 1; seed <= 6; seed++) {
      const t = new TestFiles()
      const random = new Prng(seed)
      const pipes = [t.pipe()!, t.pipe()!] as const
      const naive: number[][][] = [[], []]
      for (let step = 0; step < 50; step++) {
        const which = random.below(2)
        const from = pipes[which]!
        const to = pipes[1 - which]!
        const [have, want] = [naive[which]!, naive[1 - which]!]
        const size = [1, 100, PAGE, 5000, 30_000][random.below(5)]!
        const what = `seed ${seed} step ${step} size ${size}`
        const choice = random.below(4)
        if (choice === 0) {
          const file = t.file(pattern(size, step), O_RDONLY)
          const got = splice(t, file, from.write, size)
          for (let at = 0; at < got; at += PAGE)
            have.push([...pattern(size, step).subarray(at, Math.min(at + PAGE, got))])
          t.close(file)
        } else if (choice === 1) {
          const bytes = t.read(from.read, size)
          const taken: number[] = []
          while (taken.length < size && have.length > 0) {
            taken.push(...have[0]!.splice(0, size - taken.length))
            if (have[0]!.length === 0) have.shift()
          }
          expect(typeof bytes === 'number' ? [] : [...bytes], what).toEqual(taken)
        } else {
          const tee = choice === 2
          const got = tee ? sysTeeFiles(from.read, to.write, size, 0) : splice(t, from.read, to.write, size)
          const before = have.length > 0 && want.length < 16
          let moved = 0
          for (let i = 0; i < have.length && moved < size && want.length < 16; ) {
            const piece = have[i]!.slice(0, size - moved)
            want.push(piece)
            moved += piece.length
            if (tee) i++
            else if (piece.length === have[0]!.length) have.shift()
            else have[0]!.splice(0, piece.length)
          }
          expect(got, what).toBe(before ? moved : -ERRNO.EAGAIN)
        }
        for (const [i, { read }] of pipes.entries()) {
          expect(pipeOccupancy(getPipeInfo(read)!), what).toBe(naive[i]!.length)
          expect(pipeBytes(getPipeInfo(read)!), what).toBe(naive[i]!.reduce((sum, piece) => sum + piece.length, 0))
        }
        t.audit(true)
      }
      t.finish()
    }
  })

  it('copies into a file, and takes from the pipe what it wrote', () => {
    const t = new TestFiles()
    const { read, write } = t.pipe()!
    const out = t.file(new Uint8Array(0), O_RDWR)
    t.write(write, pattern(10_000))
    const copied = t.copied
    const at = new Loff(5000)
    expect(splice(t, read, out, 9000, null, at)).toBe(9000)
    expect(at.pos).toBe(14_000)
    expect(t.copied - copied).toBe(9000)
    expect(pipeBytes(getPipeInfo(read)!)).toBe(1000)
    expect(t.read(out, 9000, new Loff(5000))).toEqual(pattern(9000))
    t.finish()
  })

  it('refuses in the kernel’s order', () => {
    const t = new TestFiles()
    const p = t.pipe()!
    const q = t.pipe()!
    const file = t.file(pattern(10), O_RDWR)
    const append = t.file(pattern(10), O_WRONLY | O_APPEND)
    t.write(p.write, pattern(100))
    expect(sysSpliceFiles(t.vfs, t.cpu, t.task, null, null, null, null, 0, 99)).toBe(0)
    expect(sysSpliceFiles(t.vfs, t.cpu, t.task, null, null, null, null, 1, 99)).toBe(-ERRNO.EINVAL)
    expect(sysSpliceFiles(t.vfs, t.cpu, t.task, null, null, p.write, null, 1, 0)).toBe(-ERRNO.EBADF)
    expect(splice(t, p.read, q.read, 1, new Loff())).toBe(-ERRNO.ESPIPE)
    expect(splice(t, p.read, q.read, 1)).toBe(-ERRNO.EBADF)
    expect(splice(t, p.read, p.write, 1)).toBe(-ERRNO.EINVAL)
    expect(splice(t, file, file, 1)).toBe(-ERRNO.EINVAL)
    expect(splice(t, p.read, append, 1)).toBe(-ERRNO.EINVAL)
    expect(splice(t, p.read, file, 1, null, new Loff(-1))).toBe(-ERRNO.EINVAL)
    t.finish()
  })
})

describe('vmsplice', () => {
  const vmsplice = (t: TestFiles, { write }: PipeEnds, offset: number, bytes: number, flags = 0): number => {
    iovIterInit(t.msg.iter, t.user, offset, bytes)
    return sysVmspliceFile(t.cpu, write, t.msg.iter, flags)
  }

  it('lends the program’s pages: what it writes afterwards is what is read', () => {
    const t = new TestFiles()
    const pipe = t.pipe()!
    userWrite(t.mem, t.user, 0, pattern(5000))
    expect(vmsplice(t, pipe, 0, 5000)).toBe(5000)
    expect(t.copied).toBe(0)
    userWrite(t.mem, t.user, 10, new Uint8Array(5))
    const out = t.file(new Uint8Array(0), O_RDWR)
    splice(t, pipe.read, out, 5000)
    const got = t.read(out, 5000, new Loff()) as Uint8Array
    expect(got.subarray(0, 20)).toEqual(pattern(20).fill(0, 10, 15))
    expect(got.subarray(20)).toEqual(pattern(4980, 20))
    t.finish()
  })

  it('gives a page away only as a gift, and a second reference never', () => {
    const t = new TestFiles()
    const pipe = t.pipe()!
    const other = t.pipe()!
    vmsplice(t, pipe, 0, PAGE)
    vmsplice(t, pipe, PAGE, PAGE, SPLICE_F_GIFT)
    const info = getPipeInfo(pipe.read)!
    const [plain, gift] = [pipeSlot(info, info.tail), pipeSlot(info, info.tail + 1)]
    expect(pipeBufTrySteal(info, plain)).toBe(false)
    // The program still maps it.
    expect(pipeBufTrySteal(info, gift)).toBe(false)
    sysTeeFiles(pipe.read, other.write, 2 * PAGE, 0)
    const copy = getPipeInfo(other.read)!
    expect(bufFlags(info, gift) & PIPE_BUF_FLAG_GIFT).not.toBe(0)
    expect(bufFlags(copy, pipeSlot(copy, copy.tail + 1)) & PIPE_BUF_FLAG_GIFT).toBe(0)
    t.finish()
  })
})

describe('sendfile', () => {
  it('goes through a pipe of the task’s own and moves positions by what arrived', () => {
    const t = new TestFiles()
    const file = t.file(pattern(300_000), O_RDONLY)
    const out = t.file(new Uint8Array(0), O_RDWR)
    expect(sendfile(t, out, file, null, 200_000)).toBe(200_000)
    expect([file.pos, out.pos]).toEqual([200_000, 200_000])
    const at = new Loff(290_000)
    expect(sendfile(t, out, file, at, 100_000)).toBe(10_000)
    expect([at.pos, file.pos, out.pos]).toEqual([300_000, 200_000, 210_000])
    expect(t.read(out, 20_000, new Loff(195_000))).toEqual(
      new Uint8Array([...pattern(5000, 195_000), ...pattern(10_000, 290_000)]),
    )
    t.audit(true)
    t.finish()
  })

  it('takes any input that can seek, and older kernels only regular files', () => {
    for (const [profile, answer] of [
      ['linux-6.18-x86_64', 10_000],
      ['linux-6.1-x86_64', -ERRNO.EINVAL],
    ] as const) {
      const t = new TestFiles(profile)
      const zero = deviceOpen(t.vfs, 'zero', O_RDWR)!
      const out = t.file(new Uint8Array(0), O_RDWR)
      expect(sendfile(t, out, zero, null, 10_000)).toBe(answer)
      t.finish()
    }
  })

  it('refuses in the kernel’s order', () => {
    const t = new TestFiles()
    const file = t.file(pattern(10), O_RDONLY)
    const pipe = t.pipe()!
    const writeOnly = t.file(pattern(10), O_WRONLY)
    const append = t.file(pattern(10), O_WRONLY | O_APPEND)
    expect(sendfile(t, append, writeOnly, null, 10)).toBe(-ERRNO.EBADF)
    expect(sendfile(t, file, pipe.read, new Loff(), 10)).toBe(-ERRNO.ESPIPE)
    expect(sendfile(t, file, file, new Loff(-1), 10)).toBe(-ERRNO.EINVAL)
    expect(sendfile(t, file, file, null, 10)).toBe(-ERRNO.EBADF)
    expect(sendfile(t, append, file, null, 10)).toBe(-ERRNO.EINVAL)
    expect(sendfile(t, writeOnly, pipe.read, null, 10)).toBe(-ERRNO.EINVAL)
    expect(sendfile(t, writeOnly, file, new Loff(2 ** 50), 10)).toBe(-ERRNO.EOVERFLOW)
    t.finish()
  })

  it('lets nothing go astray whichever allocation fails', () => {
    const content = pattern(70_000)
    for (let n = 1; n < 45; n += 1) {
      const t = new TestFiles()
      const file = t.file(content, O_RDONLY)
      const out = t.file(new Uint8Array(0), O_RDWR)
      t.mem.fault = failNth(n)
      const sent = sendfile(t, out, file, null, 70_000)
      t.mem.fault = null
      t.audit(true)
      if (sent > 0) {
        expect(file.pos).toBe(sent)
        const got = t.read(out, 70_000, new Loff()) as Uint8Array
        expect(got).toHaveLength(sent)
        expect(got.every((byte, i) => byte === content[i])).toBe(true)
      } else expect(sent).toBe(-ERRNO.ENOMEM)
      expect(inodeOf(out).size).toBe(Math.max(0, sent))
      t.finish()
    }
  })
})
