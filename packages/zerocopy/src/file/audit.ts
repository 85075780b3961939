/**
 * The law of files and pipes: every reference on a page that the page cache, a pipe's slot or a pipe's spare page
 * holds is one of the page's own, and slots, users and modes add up.
 */
import { NO_PFN, type Pfn } from '@netmem/base'
import type { Memory } from '@netmem/memory'
import { type Pipe, pipeIsFull, pipeOccupancy, pipeSlot } from '../pipe/pipe.js'
import { bufLen, bufOffset, bufOps, bufPage, DEFAULT_PIPE_BUF } from '../pipe/pipe-buffer.js'
import type { UserStruct, Vfs } from './vfs.js'

/**
 * @param quiet true when nobody else (packets, programs) may hold pages: then the counts must be equal, not only enough.
 * @throws Error whose message names the page, pipe or user that does not add up.
 */
export function auditVfs(vfs: Vfs, quiet = false): void {
  const { mem } = vfs
  const held = new Map<Pfn, number>()
  const hold = (pfn: Pfn): void => {
    const head = mem.pages.head[pfn]! as Pfn
    held.set(head, (held.get(head) ?? 0) + 1)
  }
  for (const inode of vfs.inodes) {
    let pages = 0
    inode.mapping.forEach((_index, pfn) => {
      hold(pfn)
      pages += 1
    })
    if (pages !== inode.mapping.nrPages)
      throw new Error(`page cache: ${pages} pages, but nrpages says ${inode.mapping.nrPages}`)
  }
  const users = new Map<UserStruct, number>()
  for (const pipe of vfs.pipes) {
    auditPipe(pipe, hold)
    users.set(pipe.user, (users.get(pipe.user) ?? 0) + pipe.nrAccounted)
  }
  for (const [uid, user] of vfs.users)
    if (user.pipeBufs !== (users.get(user) ?? 0))
      throw new Error(`user ${uid} is charged ${user.pipeBufs} slots and has pipes of ${users.get(user) ?? 0}`)
  hold(vfs.zeroPage)
  for (const [pfn, count] of held) checkPage(mem, pfn, count, quiet)
}

function checkPage(mem: Memory, pfn: Pfn, count: number, quiet: boolean): void {
  const refs = mem.pages.refcount[pfn]!
  if (refs < count || (quiet && refs !== count))
    throw new Error(`page ${pfn} is held ${count} times by the page cache and pipes, and has ${refs} references`)
}

function auditPipe(pipe: Pipe, hold: (pfn: Pfn) => void): void {
  const used = pipeOccupancy(pipe)
  if (used > pipe.maxUsage) throw new Error(`pipe: ${used} of ${pipe.maxUsage} slots are used`)
  if ((pipe.ringSize & (pipe.ringSize - 1)) !== 0) throw new Error(`pipe: a ring of ${pipe.ringSize} slots`)
  if (pipeIsFull(pipe) !== (used === pipe.maxUsage)) throw new Error('pipe: full and not full')
  const { pageSize, mem } = pipe.vfs
  let filled = 0
  for (let i = 0; i < pipe.ringSize; i++) {
    const buf = pipeSlot(pipe, pipe.tail + i)
    const ops = bufOps(pipe, buf)
    if ((ops !== 0) !== i < used)
      throw new Error(`pipe: slot ${i} of ${used} used ones ${ops === 0 ? 'is empty' : 'holds something'}`)
    if (ops === 0) continue
    filled += 1
    const pfn = bufPage(pipe, buf)
    hold(pfn)
    const end = bufOffset(pipe, buf) + bufLen(pipe, buf)
    // Only what came from packets may be longer than a page.
    if (ops <= DEFAULT_PIPE_BUF && end > pageSize) throw new Error(`pipe: a slot ends ${end} bytes into its page`)
    if (mem.pages.refcount[mem.pages.head[pfn]!]! <= 0)
      throw new Error(`pipe: slot ${i} refers to page ${pfn}, which is free`)
  }
  if (filled !== used) throw new Error(`pipe: ${filled} slots hold something, ${used} are counted`)
  for (const pfn of pipe.tmpPage) if (pfn !== NO_PFN) hold(pfn as Pfn)
}
