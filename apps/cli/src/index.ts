/**
 * The command line: what commands there are and how they end. Each command's own code is loaded only when
 * it is used, so `netmem --help` reads neither the model nor a parser.
 */
import { Command, CommanderError, Option } from 'commander'
import { EXIT_BAD_INPUT, EXIT_DONE, InputError, oneLine } from './errors.js'
import { addAnswerCommands } from './program/answers.js'
import { addCompletionCommand } from './program/completion.js'
import { examples } from './program/examples.js'
import { addHostCommands } from './program/host.js'
import { addSizeCommands } from './program/size.js'
import { version } from './version.js'

/** Collects a repeatable option. */
const collect = (value: string, before: string[] = []): string[] => [...before, value]

const exitCodes = `
Exit codes: 0 done, 1 the answer is "no" (a trace differs), 2 bad input (one line on standard error).`

function program(): Command {
  const netmem = new Command('netmem')
    .description('Where the memory of network traffic goes, by the rules of the Linux kernel.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .showHelpAfterError(false)
    .addHelpText(
      'after',
      examples(['netmem replay capture.pcap', 'netmem verify traces/', 'netmem run scenario.yaml']) + exitCodes,
    )
  netmem
    .command('replay')
    .summary('run a capture through the modelled machine and report on its memory')
    .description(
      'Runs a capture (pcap or pcapng) through a modelled machine, packet by packet, and reports\nwhere memory went.\n' +
        'The machine is the address in the capture that receives most: what it received enters its\n' +
        'network card, what it sent leaves through its sockets.',
    )
    .argument('<capture>', 'a pcap or pcapng file; "-" reads standard input (then --host is needed)')
    .option('--host <address>', 'the machine that is modelled (repeatable when it has several addresses)', collect)
    .option('--reader <speed>', 'how fast programs read: instant, stalled, or bytes per second such as 10M', 'instant')
    .option('--sysctl <name=value>', 'set a sysctl before the first packet (repeatable)', collect)
    .option('--rcvbuf <bytes>', 'SO_RCVBUF of every socket (doubled by the kernel, at most net.core.rmem_max)')
    .option('--sndbuf <bytes>', 'SO_SNDBUF of every socket (doubled by the kernel, at most net.core.wmem_max)')
    .option('--cpus <number>', 'processors of the machine', '1')
    .option('--memory <bytes>', 'memory of the machine', '1G')
    .option('--ring <number>', 'receive descriptors of the network card', '512')
    .option('--driver <name>', 'driver of the card: page-pool, header-split, ring, e1000, e1000e', 'page-pool')
    .option('--dma <kind>', 'between card and memory: direct, iommu, swiotlb', 'direct')
    .option('--mtu <bytes>', 'MTU of the network card; default: 1500, or what the frames of the capture need')
    .option('--speed <factor>', 'time scale: 2 replays twice as fast as captured', '1')
    .option('--kernel <profile>', 'kernel that is modelled', 'linux-6.18-x86_64')
    .option('--seed <number>', 'seed of the machine', '1')
    .addOption(
      new Option('--snapshots <time>', 'run at the pace of the capture and print a look at memory so often').hideHelp(),
    )
    .option('--rx <paths>', 'compare ways to receive all of it: socket, packet-mmap, af-xdp (a list, with commas)')
    .option('--html <file>', 'write the report as one HTML file too, with pictures; it needs nothing else')
    .option('--json', 'print one JSON document (schema netmem-replay/1; with --rx, netmem-replay-rx/1)')
    .addHelpText(
      'after',
      examples([
        'netmem replay web.pcap',
        'netmem replay stream.pcap --reader 500k --rcvbuf 65536',
        'netmem replay stream.pcap --reader stalled --sysctl net.core.rmem_default=1000000',
        'netmem replay web.pcap --host 192.0.2.1 --json',
        'netmem replay web.pcap --driver e1000e --dma swiotlb',
        'netmem replay stream.pcap --rx socket,packet-mmap,af-xdp',
        'netmem replay stream.pcap --reader stalled --html report.html',
      ]),
    )
    .action(async (capture: string, options: Record<string, unknown>) => {
      const { replayCommand } = await import('./commands/replay.js')
      await replayCommand(capture, options)
    })
  netmem
    .command('verify')
    .summary('play recorded traces of a real kernel on the model and compare')
    .description('Plays traces that were recorded on a real kernel and compares the model with them, key by key.')
    .argument('<trace...>', 'trace files, or folders of them (*.json, searched through)')
    .option('--diff', 'list what did not match')
    .option('--json', 'print one JSON document (schema netmem-verify/1)')
    .addHelpText('after', examples(['netmem verify traces/', 'netmem verify traces/udp-rcvbuf-overflow.json --diff']))
    .action(async (paths: string[], options: Record<string, unknown>) => {
      const { verifyCommand } = await import('./commands/verify.js')
      await verifyCommand(paths, options)
    })
  netmem
    .command('run')
    .summary("perform a scenario's steps and print each answer")
    .description(
      'Performs the steps of a scenario, written by hand in the verbs of the traces, and prints each answer.',
    )
    .argument('<scenario>', 'a YAML or JSON file')
    .addOption(new Option('--kernel <profile>', 'kernel that is modelled, where the scenario names none'))
    .option('--json', 'print one JSON document (schema netmem-run/1)')
    .addHelpText('after', examples(['netmem run scenario.yaml', 'netmem run scenario.yaml --json']))
    .action(async (path: string, options: Record<string, unknown>) => {
      const { runCommand } = await import('./commands/run.js')
      await runCommand(path, options)
    })
  addAnswerCommands(netmem)
  addSizeCommands(netmem)
  addHostCommands(netmem)
  addCompletionCommand(netmem)
  netmem
    .command('proc')
    .summary("write the modelled machine's /proc as files")
    .description(
      'Runs a capture or a scenario, stops before anything is closed, and writes the /proc of the\n' +
        'modelled machine into a folder, for programs that read one.',
    )
    .argument('<input>', 'a pcap or pcapng file, or a scenario (YAML or JSON)')
    .requiredOption('--out <folder>', 'the folder that becomes /proc; new or empty')
    .option('--sysfs <folder>', 'a folder that becomes /sys: counters of devices, memory groups')
    .option('--host <address>', 'captures: the machine that is modelled (repeatable)', collect)
    .option('--reader <speed>', 'captures: how fast programs read: instant, stalled, or bytes per second', 'instant')
    .option('--sysctl <name=value>', 'captures: set a sysctl before the first packet (repeatable)', collect)
    .option('--cpus <number>', 'captures: processors of the machine', '1')
    .option('--memory <bytes>', 'captures: memory of the machine', '1G')
    .option('--ring <number>', 'captures: receive descriptors of the network card', '512')
    .option('--speed <factor>', 'captures: time scale', '1')
    .option('--seed <number>', 'captures: seed of the machine', '1')
    .addOption(new Option('--kernel <profile>', 'kernel that is modelled'))
    .option('--json', 'print one JSON document (schema netmem-proc/1)')
    .addHelpText(
      'after',
      examples([
        'netmem proc --out proc/ --reader stalled web.pcap',
        'prometheus-node-exporter --collector.disable-defaults --collector.sockstat --path.procfs=proc/',
      ]),
    )
    .action(async (path: string, options: Record<string, unknown>) => {
      const { procCommand } = await import('./commands/proc.js')
      await procCommand(path, options)
    })
  const commands = [netmem, ...netmem.commands, ...netmem.commands.flatMap((command) => command.commands)]
  for (const command of commands) {
    command.exitOverride()
    command.configureOutput({ outputError: () => {} })
    command.configureHelp({ helpWidth: 96 })
  }
  return netmem
}

/** commander's complaints in our words: what is wrong, and what would be right. */
function commanderLine(error: CommanderError): string {
  const words = oneLine(error.message.replace(/^error: /, ''))
  return /help/.test(words) ? words : `${words}; "netmem --help" shows what there is`
}

/** Runs the command line `argv` and sets the exit code of the process. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that closes the pipe early (head, less) has seen enough: that is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT_DONE)
    throw error
  })
  const netmem = program()
  try {
    if (argv.length <= 2) {
      process.stderr.write('netmem: no command given; "netmem --help" shows what there is\n')
      process.exitCode = EXIT_BAD_INPUT
      return
    }
    await netmem.parseAsync(argv as string[])
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return
      process.stderr.write(`netmem: ${commanderLine(error)}\n`)
    } else if (error instanceof InputError) process.stderr.write(`netmem: ${oneLine(error.message)}\n`)
    else process.stderr.write(internalError(error))
    process.exitCode = EXIT_BAD_INPUT
  }
}

/** Not the user's fault: one line all the same, and the stack for whoever asks for it. */
function internalError(error: unknown): string {
  const words = oneLine(error instanceof Error ? `${error.name}: ${error.message}` : String(error))
  if (process.env.NETMEM_DEBUG) return `netmem: ${error instanceof Error ? (error.stack ?? words) : words}\n`
  return `netmem: a mistake in netmem itself: ${words} (NETMEM_DEBUG=1 shows where)\n`
}
