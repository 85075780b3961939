/**
 * What to read beside the page that is wanted. A reader that goes on in order gets a window that doubles up to 128 KiB;
 * when it reaches the mark in a window, the next one is read before it is needed.
 */
import { NO_PFN } from '@netmem/base'
import type { Inode } from './inode.js'

/** Models `VM_READAHEAD_PAGES` (128 KiB of 4 KiB pages): the largest window. */
const VM_READAHEAD_PAGES = 32

/** Models `struct file_ra_state`, of one open file. Page numbers and counts. */
export class FileRaState {
  start = 0
  size = 0
  asyncSize = 0
  /** Where reading the next window begins (`PG_readahead`); -1 none. */
  mark = -1
  /** Page that the last read ended in (`prev_pos`); -1 before the first. */
  prevIndex = -1
}

/** Models `get_init_ra_size` (mm/readahead.c). @param pages asked for. */
export function getInitRaSize(pages: number, max: number): number {
  const rounded = 2 ** Math.ceil(Math.log2(Math.max(1, pages)))
  if (rounded <= max / 32) return rounded * 4
  if (rounded <= max / 4) return rounded * 2
  return max
}

/** Models `get_next_ra_size` (mm/readahead.c). */
export function getNextRaSize(cur: number, max: number): number {
  if (cur < max / 16) return 4 * cur
  if (cur <= max / 2) return 2 * cur
  return max
}

/**
 * Models `page_cache_sync_ra` and `page_cache_async_ra` (mm/readahead.c).
 *
 * @param hit the page is there, but it is the mark of a window. @param read brings one page in; false without memory.
 */
export function pageCacheReadahead(
  ra: FileRaState,
  inode: Inode,
  index: number,
  pages: number,
  hit: boolean,
  read: (index: number) => boolean,
): void {
  const max = VM_READAHEAD_PAGES
  const wanted = Math.min(pages, max)
  ra.mark = -1
  if (hit || (index !== 0 && index === ra.start + ra.size)) {
    // In order so far: the next window, all of it ahead.
    ra.start = hit ? ra.start + ra.size : index
    ra.size = getNextRaSize(ra.size, max)
    ra.asyncSize = ra.size
  } else {
    const inOrder = index === 0 || pages > max || index - ra.prevIndex === 1 || index === ra.prevIndex
    const history = inOrder ? 0 : inode.mapping.pagesBefore(index, max)
    if (!inOrder && history <= wanted) {
      // A small read at random: just that.
      submit(inode, index, wanted, read)
      return
    }
    ra.start = index
    ra.size = inOrder ? getInitRaSize(wanted, max) : Math.min(history + wanted, max)
    ra.asyncSize = inOrder ? (ra.size > wanted ? ra.size - wanted : ra.size) : 1
  }
  submit(inode, ra.start, ra.size, read)
  ra.mark = ra.start + ra.size - ra.asyncSize
  // A window that begins with its mark would ask again at once for what it just read.
  if (ra.mark === index) ra.mark = ra.asyncSize === ra.size ? ra.start + ra.size - 1 : -1
}

function submit(inode: Inode, from: number, count: number, read: (index: number) => boolean): void {
  const { pageSize } = inode.vfs
  const end = Math.min(from + count, Math.ceil(inode.size / pageSize))
  for (let index = from; index < end; index++) if (inode.mapping.load(index) === NO_PFN && !read(index)) return
}
