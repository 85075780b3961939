/** Hardened user copy: only the window that a slab cache declares may travel between kernel and user space. */
import { type Addr, bug } from '@netmem/base'
import type { Memory } from './memory.js'
import { objOf, SLAB_WORD_SLOTS, slabWordCache } from './slab-core.js'

/**
 * Models `__check_heap_object` (mm/slub.c).
 *
 * @param toUser direction, for the message.
 * @throws KernelBug when `bytes` at `addr` lie in a slab object but not in its user-copy window.
 */
export function checkHeapObject(mem: Memory, addr: Addr, bytes: number, toUser: boolean): void {
  const word = mem.pages.slab[addr >>> 12]!
  if (word === 0 || bytes === 0) return
  const core = mem.slabCores[slabWordCache(word)]!
  const offset = ((addr - core.slabBase[word & SLAB_WORD_SLOTS]!) | 0) % core.size
  const obj = objOf(core, (addr - offset) as Addr)
  if (core.live[obj] === 0) bug(`usercopy: object of ${core.name} is free`)
  if (offset >= core.useroffset && offset + bytes <= core.useroffset + core.usersize) return
  const what = toUser ? 'exposure' : 'overwrite'
  bug(
    `usercopy: Kernel memory ${what} attempt detected from SLUB object '${core.name}' (offset ${offset}, size ${bytes})!`,
  )
}
