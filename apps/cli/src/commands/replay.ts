/** `netmem replay`: runs a capture through the modelled machine and prints what became of its memory. */
import { setFlagsFromString } from 'node:v8'
import { survey } from '../capture/survey.js'
import { InputError } from '../errors.js'
import { warn, writeJson, writeResultFile, writeText } from '../output.js'
import { durationNs } from '../quantities.js'
import { type ReplayOptions, replayOptions } from '../replay/options.js'
import type { Pace } from '../replay/replay.js'
import { snapshots as paced } from '../replay/snapshots.js'
import { bytesText, countText } from '../report/format.js'

/** Progress is shown from here on, unless standard error is a terminal, where it is shown sooner. */
const QUIET_MS = 1000
const TTY_QUIET_MS = 200
const TTY_EVERY_MS = 100
const PLAIN_EVERY_MS = 5000

/** @throws InputError when the file or an option is not right. */
export async function replayCommand(path: string, given: Record<string, unknown>): Promise<void> {
  const options = replayOptions(given)
  // The receive path is long; with the default budget the compiler stops inlining in the middle of it.
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=6000')
  setFlagsFromString('--max-inlined-bytecode-size=3000')
  if (given.rx !== undefined) return await receivePaths(path, given, options)
  if (path === '-' && options.hosts.length === 0)
    throw new InputError('-: standard input can be read only once, so the host must be given with --host')
  const seen = path === '-' ? { busiest: null, mtu: 1500 } : survey(path)
  const hosts = options.hosts.length > 0 ? options.hosts : seen.busiest === null ? [] : [seen.busiest]
  const { replayCapture } = await import('../replay/replay.js')
  const progress = progressLine()
  const result = (() => {
    try {
      const pace = given.snapshots === undefined ? null : snapshots(String(given.snapshots))
      return replayCapture(path, options, hosts, options.mtu ?? seen.mtu, progress.show, undefined, pace)
    } finally {
      progress.clear()
    }
  })()
  if (given.snapshots !== undefined) return
  if (result.capture.cutOff !== null) {
    if (result.packets.read === 0) throw new InputError(`${result.capture.cutOff}, before its first packet`)
    warn(`${result.capture.cutOff}; the report is of what was readable`)
  } else if (result.packets.read === 0) throw new InputError(`${path}: the capture holds no packets`)
  if (given.html !== undefined) {
    const { replayHtml } = await import('../report/html/replay-html.js')
    writeResultFile(String(given.html), replayHtml(result))
  }
  if (given.json) writeJson(result)
  else {
    const { replayText } = await import('../report/replay-text.js')
    writeText(replayText(result))
  }
}

/** `--rx`: the capture received in each of these ways. */
async function receivePaths(path: string, given: Record<string, unknown>, options: ReplayOptions): Promise<void> {
  if (path === '-')
    throw new InputError('-: standard input can be read only once, --rx reads the capture for each path')
  for (const other of ['html', 'snapshots'])
    if (given[other] !== undefined) throw new InputError(`--${other} does not go with --rx`)
  const { rxPaths } = await import('../replay/receive-path.js')
  const { replayReceivePaths } = await import('../replay/replay-rx.js')
  const paths = rxPaths(String(given.rx))
  const result = replayReceivePaths(path, options, options.mtu ?? survey(path).mtu, paths)
  if (given.json) writeJson(result)
  else {
    const { replayRxText } = await import('../report/replay-rx-text.js')
    writeText(replayRxText(result))
  }
}

const snapshots = (every: string): Pace => paced(durationNs('--snapshots', every, 10e6, 3600e9) / 1e6)

function progressLine(): { show(bytes: number, of: number, packets: number): void; clear(): void } {
  const started = Date.now()
  const { stderr } = process
  const tty = stderr.isTTY === true
  let next = started + (tty ? TTY_QUIET_MS : QUIET_MS)
  let shown = false
  return {
    show(bytes, of, packets) {
      const now = Date.now()
      if (now < next) return
      next = now + (tty ? TTY_EVERY_MS : PLAIN_EVERY_MS)
      const rate = (packets / (now - started)) * 1000
      const share = of > 0 ? `${Math.floor((100 * bytes) / of)} %, ` : ''
      const words = `${share}${bytesText(bytes)}, ${countText(packets)} packets, ${countText(rate)} packets/s`
      stderr.write(tty ? `\r\u001b[K${words}` : `netmem: ${words}\n`)
      shown = true
    },
    clear() {
      if (tty && shown) stderr.write('\r\u001b[K')
    },
  }
}
