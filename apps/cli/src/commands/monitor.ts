/** `netmem monitor`: a machine's network memory, live, once, or as metrics. */
import type { AddressInfo } from 'node:net'
import { InputError } from '../errors.js'
import { realHost } from '../host/real-proc.js'
import { screen } from '../monitor/lines.js'
import { type Snapshot, snapshot } from '../monitor/snapshot.js'
import { writeJson, writeText } from '../output.js'
import { durationNs, whole } from '../quantities.js'
import { colorsWanted } from '../report/colors.js'

/** How long `--once` watches for its rates. */
const ONCE_MS = 500

/** @throws InputError */
export async function monitorCommand(options: Readonly<Record<string, unknown>>): Promise<void> {
  const intervalMs = durationNs('--interval', String(options.interval), 100e6, 3600e9) / 1e6
  if (options.replay === undefined) {
    await show(thisMachine(options), options, intervalMs)
    return
  }
  const { startReplay } = await import('../monitor/running-replay.js')
  const given = ['reader', 'kernel', 'host'].flatMap((name) =>
    options[name] === undefined ? [] : [`--${name}`, String(options[name])],
  )
  const replay = await startReplay(process.argv[1]!, [String(options.replay), ...given], intervalMs)
  try {
    await show(replay.look, options, intervalMs)
  } finally {
    replay.stop()
    await replay.ended
  }
}

/** @throws InputError where there is no /proc to look at. */
function thisMachine(options: Readonly<Record<string, unknown>>): () => Snapshot {
  const host = realHost(options.root === undefined ? {} : { root: String(options.root) })
  if (host.read('/proc/net/sockstat') === null)
    throw new InputError(
      `${options.root ?? '/'}: no /proc/net/sockstat here; expected Linux, or --root of a copied tree`,
    )
  return () => snapshot(host, Date.now())
}

async function show(
  look: () => Snapshot,
  options: Readonly<Record<string, unknown>>,
  intervalMs: number,
): Promise<void> {
  if (options.serve !== undefined) await serveMetrics(look, String(options.serve))
  else if (options.json) writeJson({ schema: 'netmem-monitor/1', ...look() })
  else if (options.once || process.stdout.isTTY !== true) {
    const first = look()
    await new Promise((resolve) => setTimeout(resolve, ONCE_MS))
    writeText(
      screen([first, look()])
        .map(({ text, mark }) => (mark === 'over' ? `! ${text.replace(/^ {2}/, '')}` : text))
        .join('\n'),
    )
  } else await live(look, intervalMs)
}

async function live(look: () => Snapshot, intervalMs: number): Promise<void> {
  const [{ render }, { createElement }, { Live }] = await Promise.all([
    import('ink'),
    import('react'),
    import('../monitor/live.js'),
  ])
  // A screen of its own: what was on the terminal before is there again afterwards, however this ends.
  process.stdout.write('\u001b[?1049h')
  try {
    await render(createElement(Live, { look, intervalMs, coloured: colorsWanted })).waitUntilExit()
  } finally {
    process.stdout.write('\u001b[?1049l')
  }
}

async function serveMetrics(look: () => Snapshot, where: string): Promise<void> {
  const match = /^(?:(.*):)?(\d+)$/.exec(where)
  if (match === null) throw new InputError(`--serve ${where}: expected a port or address:port, such as 127.0.0.1:9877`)
  const address = (match[1] ?? '127.0.0.1').replace(/^\[(.*)\]$/, '$1')
  const port = whole('--serve', match[2]!, 0, 65535)
  const { serve } = await import('../monitor/serve.js')
  const server = await serve(look, address, port).catch((error: NodeJS.ErrnoException) => {
    throw new InputError(`--serve ${where}: cannot listen there (${error.code})`)
  })
  const { port: bound } = server.address() as AddressInfo
  process.stderr.write(`netmem: metrics at http://${address}:${bound}/metrics, health at /healthz; Ctrl-C ends\n`)
  await new Promise<void>((resolve) => {
    const stop = (): void => {
      server.close(() => resolve())
      server.closeAllConnections()
    }
    process.once('SIGINT', stop)
    process.once('SIGTERM', stop)
  })
}
