/** /proc/net/softnet_stat: a line per processor, in hexadecimal. */
import { countText } from '../report/format.js'
import { type Finding, finding, type Line } from './finding.js'

export function readSoftnet(line: Line): Finding | null {
  if (!/^[0-9a-f]{8}( [0-9a-f]{8}){8,14}\s*$/.test(line.text)) return null
  const words = line.text
    .trim()
    .split(' ')
    .map((word) => Number.parseInt(word, 16))
  const [processed, dropped, squeezed] = words as [number, number, number]
  const rps = words[9] ?? 0
  const limited = words[10] ?? 0
  const cpu = words[12]
  const means = [
    `${cpu === undefined ? 'This processor' : `Processor ${cpu}`} took in ${countText(processed)} packets.`,
    `dropped: ${countText(dropped)} packets found its input queue full (net.core.netdev_max_backlog); loopback, veth and RPS use that queue, network cards with NAPI do not.`,
    `time_squeeze: ${countText(squeezed)} times it stopped with work left, because net.core.netdev_budget packets or netdev_budget_usecs were used up; that is a delay, not a loss.`,
  ]
  if (rps > 0) means.push(`received_rps: ${countText(rps)} times another processor woke it for packets (RPS).`)
  if (limited > 0) means.push(`flow_limit: ${countText(limited)} packets of a flow that took too much were dropped.`)
  const next: string[] = []
  if (dropped > 0)
    next.push('Raise net.core.netdev_max_backlog, or spread the load over more processors (RPS, more queues).')
  if (squeezed > 0 && processed > 0 && squeezed / processed > 0.001)
    next.push(
      'More than one squeeze in a thousand packets: raise net.core.netdev_budget and netdev_budget_usecs together.',
    )
  return finding(line, dropped > 0 ? 'over' : next.length > 0 ? 'near' : 'fine', means, next)
}
