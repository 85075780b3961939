/**
 * What files, the page cache and pipes need from the machine, and what they keep of their own: which pipes and
 * inodes there are, what each user has in pipes, and the objects that calls reuse.
 */
import type { KernelProfile, Pfn, Trace } from '@netmem/base'
import { type Cpu, NO_PFN } from '@netmem/base'
import { allocPages, type Memory } from '@netmem/memory'
import { Msg, type Sysctls } from '@netmem/sockmem'
import type { Pipe } from '../pipe/pipe.js'
import { checkPipeBufferLayout, type PipeBufferLayout } from '../pipe/pipe-buffer.js'
import { Loff } from './file.js'
import type { Inode } from './inode.js'

/** What a machine brings. `Kernel` has all of it. */
export interface VfsParams {
  readonly mem: Memory
  /** Which boots. */
  readonly cpu: Cpu
  readonly profile: KernelProfile
  readonly trace: Trace
  /** The machine's sysctls: `fs.pipe-*`. */
  readonly sysctls: Sysctls
  /** Seeds what /dev/random gives. */
  readonly seed?: number
}

/** Models the part of `struct user_struct` that pipes are charged to. */
export class UserStruct {
  /** Models `pipe_bufs`: slots of all the user's pipes, in pages. */
  pipeBufs = 0
}

export class Vfs {
  readonly mem: Memory
  readonly profile: KernelProfile
  readonly trace: Trace
  readonly pageSize: number
  /** Sendfile takes any input that can seek, and sockets take pages in `sendmsg`; before, `sendpage` took one. */
  readonly sendpage: boolean
  /** Pages that a pipe keeps for its next write. */
  readonly pipeSparePages: number
  readonly pipeInodeBytes: number
  readonly bufferLayout: PipeBufferLayout
  // fs.pipe-max-size in bytes, the other two in pages per user; 0 is no limit.
  readonly pipeMaxSize: Float64Array
  readonly pipeUserPagesHard: Float64Array
  readonly pipeUserPagesSoft: Float64Array
  readonly users = new Map<number, UserStruct>()
  readonly pipes = new Set<Pipe>()
  readonly inodes = new Set<Inode>()
  /** Models `ZERO_PAGE(0)`: what holes of a tmpfs file read as. */
  readonly zeroPage: Pfn
  /** State of /dev/random's generator. */
  randomState: number

  // Scratch: calls do not overlap, but a sendfile has two positions.
  readonly msg = new Msg()
  readonly at = new Loff()
  readonly outAt = new Loff()
  readonly pieces = new Pieces(16)

  constructor(params: VfsParams) {
    const { profile, sysctls } = params
    this.mem = params.mem
    this.profile = profile
    this.trace = params.trace
    this.pageSize = profile.page_size
    this.sendpage = profile.features.sendpage
    this.pipeSparePages = profile.features.pipeSparePages
    this.pipeInodeBytes = profile.structs.pipe_inode_info!.size
    this.bufferLayout = checkPipeBufferLayout(profile)
    this.pipeMaxSize = sysctls.numbers('fs.pipe-max-size', [1048576])
    this.pipeUserPagesHard = sysctls.numbers('fs.pipe-user-pages-hard', [0])
    this.pipeUserPagesSoft = sysctls.numbers('fs.pipe-user-pages-soft', [16384])
    this.randomState = (params.seed ?? 1) | 1
    const { gfp } = this.mem
    this.zeroPage = allocPages(this.mem, params.cpu, gfp.GFP_KERNEL | gfp.ZERO, 0, -1, 'mm_init')
    if (this.zeroPage === NO_PFN) throw new RangeError('no memory for the page of zeros')
  }

  /** @returns the account of a user. */
  user(uid: number): UserStruct {
    let user = this.users.get(uid)
    if (user === undefined) {
      user = new UserStruct()
      this.users.set(uid, user)
    }
    return user
  }
}

/** Pieces of pages on their way into an iterator: models an array of `struct bio_vec`. Grows, never shrinks. */
export class Pieces {
  count = 0
  pfns: Int32Array
  offsets: Int32Array
  lens: Int32Array

  constructor(room: number) {
    this.pfns = new Int32Array(room)
    this.offsets = new Int32Array(room)
    this.lens = new Int32Array(room)
  }

  /** Makes room for so many pieces and forgets what was there. */
  reset(room: number): void {
    this.count = 0
    if (this.pfns.length >= room) return
    this.pfns = new Int32Array(room)
    this.offsets = new Int32Array(room)
    this.lens = new Int32Array(room)
  }

  /** Models `bvec_set_page`. */
  add(pfn: Pfn, offset: number, bytes: number): void {
    const at = this.count
    this.pfns[at] = pfn
    this.offsets[at] = offset
    this.lens[at] = bytes
    this.count = at + 1
  }
}

/** Makes the file layer of one machine. */
export const vfsInit = (params: VfsParams): Vfs => new Vfs(params)
