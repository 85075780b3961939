/**
 * The limits that the kernel works out at boot from the size of memory: as text, as /proc/sys shows them.
 */

const PAGE_SIZE = 4096
const MAX_WRITE_SHARE = 4 << 20
const EHASH_PAGES_PER_BUCKET = 32
const EHASH_MOST = 512 << 10
const EHASH_LEAST = 16

/** Models `alloc_large_system_hash` for the table of established connections: a bucket per 128 KiB, a power of two. */
function ehashEntries(totalPages: number): number {
  const wanted = Math.max(1, Math.floor(totalPages / EHASH_PAGES_PER_BUCKET))
  return Math.min(EHASH_MOST, Math.max(EHASH_LEAST, 2 ** Math.ceil(Math.log2(wanted))))
}

/**
 * Models `tcp_init_mem` and the limits of `tcp_init` (net/ipv4/tcp.c) and `udp_init` (net/ipv4/udp.c).
 *
 * @param freeBufferPages what `nr_free_buffer_pages` counts: pages above the high watermarks below highmem.
 * @param maxReadShare upper bound of `tcp_rmem[2]` in bytes: 32 MiB on 6.18, 6 MiB on 6.1.
 * @param totalPages all pages of the machine: the table of connections is sized by them.
 * @returns sysctl texts by name; `tcp_mem` and `udp_mem` in pages, the others in bytes.
 */
export function bootLimits(freeBufferPages: number, maxReadShare: number, totalPages: number): Record<string, string> {
  const triple = (limit: number): string => {
    const low = Math.floor(limit / 4) * 3
    return `${low}\t${limit}\t${low * 2}`
  }
  const ehash = ehashEntries(totalPages)
  const share = freeBufferPages * (PAGE_SIZE / 128)
  return {
    'net.ipv4.tcp_mem': triple(Math.max(Math.floor(freeBufferPages / 16), 128)),
    'net.ipv4.tcp_max_orphans': String(ehash / 2),
    'net.ipv4.tcp_max_tw_buckets': String(ehash / 2),
    'net.ipv4.tcp_max_syn_backlog': String(Math.max(128, ehash / 128)),
    'net.ipv4.udp_mem': triple(Math.max(Math.floor(freeBufferPages / 8), 128)),
    'net.ipv4.tcp_wmem': `4096\t16384\t${Math.max(65536, Math.min(MAX_WRITE_SHARE, share))}`,
    'net.ipv4.tcp_rmem': `4096\t131072\t${Math.max(131072, Math.min(maxReadShare, share))}`,
  }
}
