/** The commands that answer a question without a capture: by asking the model. */
import type { Command } from 'commander'
import { examples } from './examples.js'

const PATHS = 'udp-loopback, tap, veth, veth-xdp, page-pool, tcp, unix or unix-stream'
const KERNEL = ['--kernel <profile>', 'kernel that is modelled', 'linux-6.18-x86_64'] as const

export function addAnswerCommands(netmem: Command): void {
  netmem
    .command('truesize')
    .summary('what one message costs a socket, and what it costs it for')
    .description('Sends one message through the model and shows what the socket is charged for it, part by part.')
    .argument('<bytes>', 'payload of the message')
    .option('--path <path>', `the way it takes: ${PATHS}`, 'udp-loopback')
    .option(...KERNEL)
    .option('--json', 'print one JSON document (schema netmem-truesize/1)')
    .addHelpText(
      'after',
      examples([
        'netmem truesize 1400',
        'netmem truesize 1400 --path page-pool',
        'netmem truesize 200 --path tcp --kernel linux-6.1-x86_64',
      ]),
    )
    .action(async (bytes: string, options: Record<string, unknown>) => {
      const { truesizeCommand } = await import('../commands/truesize.js')
      truesizeCommand(bytes, options)
    })
  netmem
    .command('fit')
    .summary('how many messages a socket buffer holds, or which buffer holds so many')
    .description(
      'Fills a socket of the model until it refuses. With --count and no buffer, finds the smallest\n' +
        'buffer; with both, exit code 1 says that so many do not fit.',
    )
    .requiredOption('--len <bytes>', 'payload of each message')
    .option('--rcvbuf <bytes>', 'receive buffer in force ("rb" of ss -m); default: the kernel\'s')
    .option('--sndbuf <bytes>', 'send buffer in force ("tb" of ss -m), for unix paths')
    .option('--count <number>', 'how many should fit')
    .option('--path <path>', `the way they take: ${PATHS}`, 'udp-loopback')
    .option(...KERNEL)
    .option('--json', 'print one JSON document (schema netmem-fit/1)')
    .addHelpText(
      'after',
      examples([
        'netmem fit --rcvbuf 212992 --len 200',
        'netmem fit --len 1452 --count 1000',
        'netmem fit --len 1452 --path page-pool',
      ]),
    )
    .action(async (options: Record<string, unknown>) => {
      const { fitCommand } = await import('../commands/fit.js')
      fitCommand(options)
    })
  netmem
    .command('explain')
    .summary('what pasted kernel text means, which limit is near, what to look at next')
    .description(
      'Reads text from standard input (or the arguments): ss -tm and -um, /proc/net/sockstat, nstat,\n' +
        'snmp and netstat, softnet_stat, slabinfo, sysctl lines, MemTotal, lines of dmesg, or the name of\n' +
        'a drop reason, in any mixture. Exit code 1: a limit was reached or a setting is a mistake.',
    )
    .argument('[text...]', 'the text itself; default: standard input')
    .option('--memory <bytes>', "the machine's memory, to check settings against (or paste MemTotal)")
    .option('--json', 'print one JSON document (schema netmem-explain/1)')
    .addHelpText(
      'after',
      examples([
        'ss -tmn | netmem explain',
        '(cat /proc/net/sockstat; sysctl net.ipv4.tcp_mem net.ipv4.udp_mem) | netmem explain',
        'netmem explain "TCP: out of memory -- consider tuning tcp_mem"',
        'netmem explain SOCKET_RCVBUFF',
        'echo "net.ipv4.tcp_mem = 4096 87380 16777216" | netmem explain --memory 16G',
      ]),
    )
    .action(async (words: string[], options: Record<string, unknown>) => {
      const { explainCommand } = await import('../commands/explain.js')
      explainCommand(words, options)
    })
  netmem
    .command('diff')
    .summary('two replays side by side: settings, kernels, captures')
    .description('Compares two documents that "netmem replay --json" printed, and shows what differs.')
    .argument('<a.json>', 'the one replay')
    .argument('<b.json>', 'the other')
    .option('--json', 'print one JSON document (schema netmem-diff/1)')
    .addHelpText(
      'after',
      examples([
        'netmem replay web.pcap --json > new.json',
        'netmem replay web.pcap --kernel linux-6.1-x86_64 --json > old.json',
        'netmem diff old.json new.json',
      ]),
    )
    .action(async (a: string, b: string, options: Record<string, unknown>) => {
      const { diffCommand } = await import('../commands/diff.js')
      diffCommand(a, b, options)
    })
}
