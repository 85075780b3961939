/** /proc/net/sockstat and sockstat6: sockets by protocol, and their memory in pages. */
import { bytesText, countText, percentText } from '../report/format.js'
import { type Facts, type Finding, finding, type Level, type Line, levelOf, worse } from './finding.js'

/** Protocol memory against its three limits. @returns level and words. */
function againstLimits(pages: number, name: string, facts: Facts): { level: Level; means: string[]; next: string[] } {
  const limits = facts.sysctls.get(name)
  const size = bytesText(pages * facts.pageBytes)
  const unit = `mem counts pages of ${facts.pageBytes} bytes, not bytes: ${countText(pages)} pages are ${size}.`
  if (limits === undefined || limits.length < 3)
    return { level: 'note', means: [unit], next: [`Paste "sysctl ${name}" too, to see how near its limits that is.`] }
  const [low, pressure, high] = limits as [number, number, number]
  const means = [
    unit,
    `${name}: below ${countText(low)} pages nothing is limited, from ${countText(pressure)} on sockets get less (pressure), above ${countText(high)} packets are refused; it stands at ${percentText(pages, high)} of the last.`,
  ]
  if (pages >= high)
    return {
      level: 'over',
      means,
      next: ['Find who holds it with "ss -tmn" (largest r and w), before raising anything.'],
    }
  if (pages >= pressure)
    return {
      level: 'near',
      means,
      next: ['The protocol is under pressure: receive windows shrink and send buffers are cut.'],
    }
  return { level: levelOf(pages, high), means, next: [] }
}

export function readSockstat(line: Line, facts: Facts): Finding | null {
  const { text } = line
  const used = /^sockets: used (\d+)/.exec(text)
  if (used !== null)
    return finding(line, 'fine', [`${countText(Number(used[1]))} sockets of all kinds exist in this namespace.`])
  const tcp = /^TCP: inuse (\d+) orphan (\d+) tw (\d+) alloc (\d+) mem (\d+)/.exec(text)
  if (tcp !== null) {
    const [inuse, orphan, tw, alloc, mem] = tcp.slice(1).map(Number) as [number, number, number, number, number]
    const { level, means, next } = againstLimits(mem, 'net.ipv4.tcp_mem', facts)
    const orphans = facts.sysctls.get('net.ipv4.tcp_max_orphans')?.[0]
    const words = [
      `${countText(inuse)} TCP sockets are in use, ${countText(alloc)} exist at all, ${countText(tw)} are in TIME-WAIT (small, without buffers).`,
      `orphan: ${countText(orphan)} have no program any more and wait to finish${orphans === undefined ? '' : `, of net.ipv4.tcp_max_orphans ${countText(orphans)}`}.`,
      ...means,
    ]
    const orphaned = orphans === undefined ? 'fine' : levelOf(orphan, orphans)
    if (orphaned !== 'fine')
      next.push('Orphans are near their limit: above it the kernel resets them ("too many orphaned sockets").')
    return finding(line, worse(level, orphaned), words, next)
  }
  const udp = /^UDP: inuse (\d+) mem (\d+)/.exec(text)
  if (udp !== null) {
    const { level, means, next } = againstLimits(Number(udp[2]), 'net.ipv4.udp_mem', facts)
    return finding(line, level, [`${countText(Number(udp[1]))} UDP sockets are in use.`, ...means], next)
  }
  const frag = /^(FRAG6?): inuse (\d+) memory (\d+)/.exec(text)
  if (frag !== null) {
    const limit = facts.sysctls.get(
      frag[1] === 'FRAG' ? 'net.ipv4.ipfrag_high_thresh' : 'net.ipv6.ip6frag_high_thresh',
    )?.[0]
    const use = Number(frag[3])
    return finding(line, limit === undefined ? 'fine' : levelOf(use, limit), [
      `${countText(Number(frag[2]))} packets wait for missing fragments, in ${bytesText(use)} (here memory counts bytes)${limit === undefined ? '' : `, of ${bytesText(limit)}`}.`,
    ])
  }
  const other = /^(TCP6|UDP6|UDPLITE6?|RAW6?): inuse (\d+)/.exec(text)
  if (other === null) return null
  return finding(line, 'fine', [`${countText(Number(other[2]))} ${other[1]} sockets are in use.`])
}
