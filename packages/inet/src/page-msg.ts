/** A piece of a page as a message: what `sendpage` of kernels before 6.5 hands to code that takes messages. */
import type { Pfn } from '@netmem/base'
import { iovIterBvec } from '@netmem/memory'
import { Msg } from '@netmem/sockmem'

/** One per protocol and machine, for calls do not overlap. */
export class PageMsg {
  readonly msg = new Msg()
  private readonly pfns = new Int32Array(1)
  private readonly offsets = new Int32Array(1)
  private readonly lens = new Int32Array(1)

  /** @returns a message with a piece of a page in it. */
  of(page: Pfn, offset: number, bytes: number, flags: number): Msg {
    this.pfns[0] = page
    this.offsets[0] = offset
    this.lens[0] = bytes
    this.msg.reset(flags)
    iovIterBvec(this.msg.iter, this.pfns, this.offsets, this.lens, 1)
    return this.msg
  }
}
