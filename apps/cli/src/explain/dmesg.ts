/** Lines of the kernel log about network memory. */
import { bytesText, countText } from '../report/format.js'
import { type Facts, type Finding, finding, type Line } from './finding.js'

interface Pattern {
  readonly at: RegExp
  say(match: RegExpExecArray, facts: Facts): { means: readonly string[]; next: readonly string[] }
}

const pages = (facts: Facts): string => {
  const limits = facts.sysctls.get('net.ipv4.tcp_mem')
  if (limits?.[2] === undefined) return 'its third number is the limit, in pages (4 KiB each), not in bytes.'
  return `its third number, ${countText(limits[2])} pages (${bytesText(limits[2] * facts.pageBytes)}), is the limit.`
}

const patterns: readonly Pattern[] = [
  {
    at: /TCP: out of memory -- consider tuning tcp_mem/,
    say: (_match, facts) => ({
      means: [
        `All TCP sockets together reached net.ipv4.tcp_mem: ${pages(facts)} An orphan or a socket that had to send was reset for it.`,
      ],
      next: [
        'First see who holds it: "ss -tmn" (large r: a program that does not read; large w: a peer that does not take). If it is in use rightly, raise the third number, and the second (pressure) with it.',
        '"netmem size tcp_mem --connections N --rtt T --rate R" works out what so many connections need.',
      ],
    }),
  },
  {
    at: /TCP: too many orphaned sockets/,
    say: () => ({
      means: [
        'More sockets without a program waited to finish than net.ipv4.tcp_max_orphans allows (each counts more when memory is short); one was reset. This is not about tcp_mem.',
      ],
      next: [
        'orphan in /proc/net/sockstat; net.ipv4.tcp_max_orphans (each may hold up to 64 KiB), net.ipv4.tcp_fin_timeout, net.ipv4.tcp_orphan_retries.',
      ],
    }),
  },
  {
    at: /Out of socket memory/,
    say: () => ({
      means: ['The old wording of two different messages: either too many orphans, or TCP above tcp_mem.'],
      next: [
        '/proc/net/sockstat decides: orphan against net.ipv4.tcp_max_orphans, mem against net.ipv4.tcp_mem (pages).',
      ],
    }),
  },
  {
    at: /page_pool_release_retry\(\) stalled pool shutdown[:]?(?: id (\d+),)? (-?\d+) inflight (\d+) sec/,
    say: (match) => {
      const inflight = Number(match[2])
      return {
        means: [
          `A driver closed a page pool ${match[3]} s ago, and ${countText(inflight)} of its pages (${bytesText(inflight * 4096)} with pages of 4 KiB) have not come back; its memory and its device's DMA mappings stay until they do.`,
          'The kernel repeats this every minute. The pages are in packets that somebody still holds: unread socket queues, a queue of another device, or a leak.',
        ],
        next: [
          'Large r in "ss -anm" (sockets that nobody reads); then queues of tunnels and bridges; if none, the driver leaks. A page pool is named by "ynl page-pool-get" on kernels since 6.7.',
        ],
      }
    },
  },
  {
    at: /page allocation failure: order:(\d+), mode:(0x[0-9a-f]+)(?:\(([^)]*)\))?/,
    say: (match) => {
      const order = Number(match[1])
      const atomic = /ATOMIC|NOWAIT/.test(match[3] ?? '')
      return {
        means: [
          `No ${order === 0 ? 'page' : `block of ${1 << order} pages in a row (${bytesText(4096 << order)})`} could be had${match[3] === undefined ? '' : ` with ${match[3]}`}.`,
          atomic
            ? 'In interrupts and softirqs the kernel cannot wait for memory to be freed, so packets are dropped while reclaim catches up.'
            : 'The caller could wait, and even so nothing was freed in time.',
          ...(order > 0
            ? [
                'Memory may be free but in pieces: page fragments try order 3 first and then take single pages, which costs speed and loses nothing.',
              ]
            : []),
        ],
        next: [
          'Raise vm.min_free_kbytes (reclaim starts earlier; try 1 % of memory at first), then look at what fills memory: /proc/buddyinfo, /proc/meminfo, slabinfo.',
        ],
      }
    },
  },
  {
    at: /swiotlb buffer is full(?: \(sz: (\d+) bytes\))?(?:, total (\d+) \(slots\), used (\d+) \(slots\))?/,
    say: (match) => {
      const [size, total, used] = match.slice(1).map((text) => (text === undefined ? null : Number(text)))
      const words = [
        'A device that cannot reach a buffer needs a bounce buffer, and there was none: the transfer failed.',
      ]
      if (total !== null && used !== null) {
        words.push(
          `${countText(used!)} of ${countText(total!)} slots of 2 KiB were used (${bytesText(used! * 2048)} of ${bytesText(total! * 2048)}); asked for were ${bytesText(size ?? 0)}.`,
        )
        if (used! < total!)
          words.push('It was not full: free slots were not next to each other, or in an area of another processor.')
      }
      return {
        means: words,
        next: [
          'swiotlb=SLOTS on the kernel command line; "netmem size swiotlb" works it out for rings and buffers. If used only ever grows, a driver does not unmap.',
        ],
      }
    },
  },
  {
    at: /nf_conntrack: table full, dropping packet/,
    say: () => ({
      means: [
        'Connection tracking has no room for another connection; the packet was dropped. This is not socket memory.',
      ],
      next: ['net.netfilter.nf_conntrack_max.'],
    }),
  },
  {
    at: /Memory cgroup out of memory: Killed process (\d+) \(([^)]*)\)/,
    say: (match) => ({
      means: [
        `The memory group of ${match[2]} (pid ${match[1]}) reached its limit. Socket buffers count to it: "sock" in memory.stat.`,
      ],
      next: ['Compare sock with anon and file in memory.stat of the group; "ss -tm" shows which sockets.'],
    }),
  },
  {
    at: /possible SYN flooding on port ([^.]*)\./,
    say: (match) => ({
      means: [`More connections came to port ${match[1]} than its listener had room for.`],
      next: ['The backlog of listen(), net.core.somaxconn, net.ipv4.tcp_max_syn_backlog.'],
    }),
  },
]

export function readDmesg(line: Line, facts: Facts): Finding | null {
  for (const { at, say } of patterns) {
    const match = at.exec(line.text)
    if (match === null) continue
    const { means, next } = say(match, facts)
    return finding(line, 'over', means, next)
  }
  return null
}
