/**
 * A process as system calls see it: the task with its credentials and page fragment, its descriptors, its
 * namespace, and the user memory that it sends from and receives into.
 */
import type { Cpu } from '@netmem/base'
import { type UserBuffer, userAlloc, userFree } from '@netmem/memory'
import { type MemCgroup, Msg, OptVal, SockAddr, Task } from '@netmem/sockmem'
import { FdTable } from './file.js'
import type { Kernel } from './kernel.js'
import type { Mapping } from './mmap.js'
import type { Net } from './net.js'

/** A buffer that grows with every call would allocate on each. */
const LEAST_BUFFER_BYTES = 256 << 10

export class Process {
  readonly files = new FdTable()
  /** Packet sockets that `Links.inject` sends frames through, by device. */
  readonly injectors = new Map<number, number>()
  /** Files that are user memory too; they go with the process. */
  readonly mappings = new Set<Mapping>()
  readonly task: Task
  /** Scratch of the system calls, one of each: a call is over before the next begins. */
  readonly msg = new Msg()
  readonly val = new OptVal()
  readonly addr = new SockAddr()
  /** Models the program writing to a buffer that it just got; without one a buffer is all zeros. */
  fillBuffer: ((name: string, buffer: UserBuffer) => void) | null = null
  private readonly buffers = new Map<string, UserBuffer>()
  /** The buffer asked for last, by its name: a reader asks for one and the same once per packet. */
  private lastName = ''
  private lastBuffer: UserBuffer | null = null

  constructor(
    readonly kernel: Kernel,
    readonly pid: number,
    cpu: Cpu,
    public net: Net,
  ) {
    this.task = new Task(pid, cpu, net.ns)
  }

  get cpu(): Cpu {
    return this.task.cpu
  }

  /** Moves the process to another network namespace (`setns`): sockets made from now on live there. */
  setns(net: Net): void {
    this.net = net
    this.task.net = net.ns
  }

  /** Moves the process to a memory group; sockets made from now on are charged to it. */
  setMemcg(memcg: MemCgroup | null): void {
    this.task.memcg = memcg
  }

  /**
   * @param name which of the process's buffers; `'send'` and `'recv'` are those of the calls that name none.
   * @returns page-aligned user memory of at least so many bytes in pages of order 0; the same one each time,
   * unless it has to grow.
   */
  buffer(name: string, bytes: number): UserBuffer {
    const last = this.lastBuffer
    if (last !== null && name === this.lastName && last.bytes >= bytes) return last
    return this.otherBuffer(name, bytes)
  }

  private otherBuffer(name: string, bytes: number): UserBuffer {
    const buffer = this.sizedBuffer(name, bytes)
    this.lastName = name
    this.lastBuffer = buffer
    return buffer
  }

  private sizedBuffer(name: string, bytes: number): UserBuffer {
    const old = this.buffers.get(name)
    if (old !== undefined && old.bytes >= bytes) return old
    if (old !== undefined) userFree(this.kernel.mem, this.cpu, old)
    const buffer = userAlloc(this.kernel.mem, this.cpu, Math.max(bytes, LEAST_BUFFER_BYTES))
    if (buffer === null) throw new RangeError(`no memory for a user buffer of ${bytes} bytes`)
    this.buffers.set(name, buffer)
    this.fillBuffer?.(name, buffer)
    return buffer
  }

  /** Models `do_exit` as far as user memory goes. Close the descriptors first. */
  freeMemory(): void {
    for (const buffer of this.buffers.values()) userFree(this.kernel.mem, this.cpu, buffer)
    this.buffers.clear()
    this.lastBuffer = null
  }
}
