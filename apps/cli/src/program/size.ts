/** `netmem size ...`: one subcommand for each number that people have to choose. */
import type { Command } from 'commander'
import { examples } from './examples.js'

type Run = (options: Record<string, unknown>) => Promise<void>
type Commands = typeof import('../commands/size.js')

/** Frames at a rate, and somebody who is away for a time. */
const stall = (command: Command, time: string): Command =>
  command
    .requiredOption('--rate <rate>', 'of one queue, such as 10Gbit')
    .option('--stall <time>', 'longest time that nobody looks', time)
    .option('--mtu <bytes>', 'MTU of the device', '1500')
    .option('--frame <bytes>', 'size of the frames, Ethernet header included; default: the largest')

export function addSizeCommands(netmem: Command): void {
  const size = netmem
    .command('size')
    .summary('which number to set for a load: tcp_mem, rings, bounce buffers')
    .description('Puts a load on the model and says which setting holds it, what was assumed, and how to check it.')
    .addHelpText(
      'after',
      examples([
        'netmem size tcp_mem --connections 50000 --rtt 40ms --rate 1Gbit',
        'netmem size nic-ring --rate 10Gbit --stall 500us',
        'netmem size packet-ring --rate 1Gbit --mtu 9000 --stall 100ms',
        'netmem size umem --rate 10Gbit --frame 64 --stall 200us',
        'netmem size swiotlb --nics 2 --queues 4 --ring 512',
      ]),
    )
  const command = (name: string, summary: string, lines: readonly string[], pick: (of: Commands) => Run): Command =>
    size
      .command(name)
      .summary(summary)
      .description(`${summary[0]!.toUpperCase()}${summary.slice(1)}.`)
      .option('--kernel <profile>', 'kernel that is modelled', 'linux-6.18-x86_64')
      .option('--json', 'print one JSON document (schema netmem-size/1)')
      .addHelpText('after', examples(lines))
      .action(async (options: Record<string, unknown>) => pick(await import('../commands/size.js'))(options))
  command(
    'tcp_mem',
    'limits of TCP memory for a number of connections',
    ['netmem size tcp_mem --connections 50000 --rtt 40ms --rate 1Gbit --memory 16G'],
    (of) => of.sizeTcpMemCommand,
  )
    .requiredOption('--connections <number>', 'connections at a time')
    .requiredOption('--rtt <time>', 'round trip, such as 40ms')
    .requiredOption('--rate <rate>', 'of all connections together, such as 1Gbit')
    .option('--memory <bytes>', "the machine's memory, to see whether it fits")
  stall(
    command(
      'nic-ring',
      'receive descriptors of a network card, and what they cost in memory',
      [
        'netmem size nic-ring --rate 10Gbit --frame 64 --stall 200us',
        'netmem size nic-ring --rate 10Gbit --mtu 9000 --queues 8',
      ],
      (of) => of.sizeNicRingCommand,
    ),
    '500us',
  ).option('--queues <number>', 'receive queues', '1')
  stall(
    command(
      'packet-ring',
      'blocks of a packet ring (TPACKET_V3)',
      ['netmem size packet-ring --rate 1Gbit --mtu 9000 --stall 100ms'],
      (of) => of.sizePacketRingCommand,
    ),
    '10ms',
  )
  stall(
    command(
      'umem',
      'fill ring, receive ring and UMEM of an AF_XDP socket',
      ['netmem size umem --rate 10Gbit --frame 64 --stall 200us'],
      (of) => of.sizeUmemCommand,
    ),
    '1ms',
  )
  command(
    'swiotlb',
    'slots of bounce buffers for network cards',
    ['netmem size swiotlb --nics 2 --queues 4 --ring 512'],
    (of) => of.sizeSwiotlbCommand,
  )
    .option('--nics <number>', 'network cards', '1')
    .option('--queues <number>', 'queues of each', '1')
    .option('--ring <number>', 'receive descriptors of a queue', '256')
    .option('--tx-ring <number>', 'send descriptors of a queue', '256')
    .option('--mtu <bytes>', 'MTU', '1500')
}
