/** A small machine with files and pipes for tests: one task, a page of user memory to read into, and bytes one can tell apart. */
import type { Cpu } from '@netmem/base'
import {
  iovIterInit,
  type Memory,
  trackAllocations,
  type UserBuffer,
  userAlloc,
  userFree,
  userRead,
  userWrite,
} from '@netmem/memory'
import { assertNoLeaks, auditMemory, testMachine } from '@netmem/memory/testing'
import { Msg, NetNs, Sysctls, Task } from '@netmem/sockmem'
import { auditVfs } from '../file/audit.js'
import { type File, Loff, O_NONBLOCK } from '../file/file.js'
import { diskInodeCreate, inodeOpen, shmemInodeCreate } from '../file/regular.js'
import { type Vfs, vfsInit } from '../file/vfs.js'
import { createPipeFiles, type PipeEnds } from '../pipe/pipe-io.js'
import { exitSplicePipe } from './sendfile.js'

const BUFFER_BYTES = 1 << 18

export class TestFiles {
  readonly mem: Memory
  readonly cpu: Cpu
  readonly vfs: Vfs
  readonly task: Task
  readonly user: UserBuffer
  readonly msg = new Msg()
  /** Bytes that the CPU copied. */
  copied = 0
  private readonly open = new Set<File>()

  constructor(profile = 'linux-6.18-x86_64') {
    const { mem, cpu, trace, profile: kernel } = testMachine({ profile, bytes: 16 << 20, cpus: 1 })
    this.mem = mem
    this.cpu = cpu
    const sysctls = new Sysctls(kernel)
    this.vfs = vfsInit({ mem, cpu, profile: kernel, trace, sysctls })
    this.task = new Task(1, cpu, new NetNs(0, kernel, sysctls))
    this.user = userAlloc(mem, cpu, BUFFER_BYTES)!
    trackAllocations(mem)
    trace.copy = (_cpu, _site, bytes) => {
      this.copied += bytes
    }
  }

  private keep(file: File): File {
    this.open.add(file)
    return file
  }

  file(content: Uint8Array, flags: number): File {
    return this.keep(inodeOpen(diskInodeCreate(this.vfs, content), flags))
  }

  memfd(bytes: number): File {
    return this.keep(inodeOpen(shmemInodeCreate(this.vfs, bytes), 2))
  }

  pipe(): PipeEnds | null {
    const ends = createPipeFiles(this.vfs, this.cpu, this.task, O_NONBLOCK)
    if (ends !== null) for (const end of [ends.read, ends.write]) this.keep(end)
    return ends
  }

  write(file: File, bytes: Uint8Array, at = new Loff(file.pos)): number {
    userWrite(this.mem, this.user, 0, bytes)
    iovIterInit(this.msg.iter, this.user, 0, bytes.length)
    const ret = file.fop.writeIter!(this.cpu, this.task, file, this.msg, at)
    file.pos = at.pos
    return ret
  }

  /** @returns the bytes, or a negative errno. */
  read(file: File, bytes: number, at = new Loff(file.pos)): Uint8Array | number {
    iovIterInit(this.msg.iter, this.user, 0, bytes)
    const ret = file.fop.readIter!(this.cpu, this.task, file, this.msg, at)
    file.pos = at.pos
    return ret < 0 ? ret : userRead(this.mem, this.user, 0, ret)
  }

  close(file: File): void {
    this.open.delete(file)
    file.fop.release?.(this.cpu, this.task, file)
  }

  audit(quiet = false): void {
    auditVfs(this.vfs, quiet)
  }

  /** Closes everything and proves that nothing is left. */
  finish(): void {
    this.mem.fault = null
    for (const file of this.open) this.close(file)
    exitSplicePipe(this.cpu, this.task)
    this.audit(true)
    auditMemory(this.mem)
    assertNoLeaks(this.mem)
    userFree(this.mem, this.cpu, this.user)
  }
}

/** Bytes that say where they are. */
export const pattern = (bytes: number, from = 0): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, i) => ((from + i) * 31 + ((from + i) >> 8)) & 0xff)
