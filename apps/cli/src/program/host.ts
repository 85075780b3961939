/** The commands about a machine that is running: this one. */
import type { Command } from 'commander'
import { examples } from './examples.js'

const collect = (value: string, before: string[] = []): string[] => [...before, value]

export function addHostCommands(netmem: Command): void {
  netmem
    .command('tune')
    .summary('propose network memory settings to this machine; apply them and take them back')
    .description(
      'Reads the counters and settings of this machine and proposes what they call for, each with the\n' +
        'reason and the memory it can cost. Writes nothing unless told to. With a load or a captured\n' +
        'workload, the model says what it needs.',
    )
    .option('--connections <number>', 'a load: TCP connections at a time')
    .option('--rtt <time>', 'a load: round trip, such as 40ms')
    .option('--rate <rate>', 'a load: of all connections together, such as 1Gbit')
    .option('--workload <capture>', 'a captured workload, replayed with the settings of this machine')
    .option('--reader <speed>', 'how fast programs read in it: instant, stalled, or bytes per second', 'instant')
    .option(
      '--set <name=value>',
      'a setting of your own, checked against the memory of the machine (repeatable)',
      collect,
    )
    .option('--out <file>', 'write the proposals as a file for /etc/sysctl.d')
    .option('--apply', 'set them now (root): saves what was there, reads back what the kernel accepted')
    .option('--rollback', 'restore what --apply saved')
    .option('--state <file>', 'where --apply saves what was there', '/var/lib/netmem/tune.json')
    .option('--root <folder>', 'a copied tree with proc/ instead of this machine')
    .option('--kernel <profile>', 'kernel that is modelled', 'linux-6.18-x86_64')
    .option('--json', 'print one JSON document (schema netmem-tune/1)')
    .addHelpText(
      'after',
      examples([
        'netmem tune',
        'netmem tune --connections 50000 --rtt 40ms --rate 1Gbit --out 90-netmem.conf',
        'netmem tune --workload stream.pcap --reader 500k',
        'sudo netmem tune --set net.core.rmem_max=8388608 --apply',
        'sudo netmem tune --rollback',
      ]),
    )
    .action(async (options: Record<string, unknown>) => {
      const { tuneCommand } = await import('../commands/tune.js')
      tuneCommand(options)
    })
  netmem
    .command('monitor')
    .summary("this machine's network memory, live")
    .description(
      'Shows sockets, protocol memory against its limits, slab caches, softnet, drops of devices and\n' +
        'counters of this machine, with rates. On a terminal it stays and redraws; q or Ctrl-C ends it.',
    )
    .option('--once', 'print one look and end (also where output is not a terminal)')
    .option('--interval <time>', 'between two looks', '1s')
    .option('--serve <[address:]port>', 'serve Prometheus metrics at /metrics and a health check at /healthz')
    .option('--root <folder>', 'a copied tree with proc/ instead of this machine')
    .option('--replay <capture>', 'the modelled machine of a replay, which runs at the pace of its capture')
    .option('--reader <speed>', 'how fast programs read in the replay')
    .option('--host <address>', 'the machine that is modelled in the replay')
    .option('--kernel <profile>', 'kernel that is modelled in the replay')
    .option('--json', 'print one look as a JSON document (schema netmem-monitor/1)')
    .addHelpText(
      'after',
      examples([
        'netmem monitor',
        'netmem monitor --once',
        'netmem monitor --json',
        'netmem monitor --serve 9877',
        'netmem monitor --replay stream.pcap --reader 500k',
      ]),
    )
    .action(async (options: Record<string, unknown>) => {
      const { monitorCommand } = await import('../commands/monitor.js')
      await monitorCommand(options)
    })
}
