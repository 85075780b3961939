/**
 * The limits that the kernel works out at boot from the size of memory: as text, as /proc/sys shows them.
 */

const PAGE_SIZE = 4096
const MAX_WRITE_SHARE = 4 << 20

/**
 * Models `tcp_init_mem` and the limits of `tcp_init` (net/ipv4/tcp.c) and `udp_init` (net/ipv4/udp.c).
 *
 * @param freeBufferPages what `nr_free_buffer_pages` counts: pages above the high watermarks below highmem.
 * @param maxReadShare upper bound of `tcp_rmem[2]` in bytes: 32 MiB on 6.18, 6 MiB on 6.1.
 * @returns sysctl texts by name; `tcp_mem` and `udp_mem` in pages, the others in bytes.
 */
export function bootLimits(freeBufferPages: number, maxReadShare: number): Record<string, string> {
  const triple = (limit: number): string => {
    const low = Math.floor(limit / 4) * 3
    return `${low}\t${limit}\t${low * 2}`
  }
  const share = freeBufferPages * (PAGE_SIZE / 128)
  return {
    'net.ipv4.tcp_mem': triple(Math.max(Math.floor(freeBufferPages / 16), 128)),
    'net.ipv4.udp_mem': triple(Math.max(Math.floor(freeBufferPages / 8), 128)),
    'net.ipv4.tcp_wmem': `4096\t16384\t${Math.max(65536, Math.min(MAX_WRITE_SHARE, share))}`,
    'net.ipv4.tcp_rmem': `4096\t131072\t${Math.max(131072, Math.min(maxReadShare, share))}`,
  }
}
