/** The live screen: the lines of the monitor, redrawn at an interval, as many as the terminal has rows for. */
import { Box, Text, useApp, useInput, useStdout } from 'ink'
import { createElement as h, type ReactElement, useEffect, useState } from 'react'
import { type Mark, type ScreenLine, screen } from './lines.js'
import type { Snapshot } from './snapshot.js'

export interface LiveProps {
  readonly look: () => Snapshot
  readonly intervalMs: number
  readonly coloured: boolean
}

const KEPT = 64
const LOOKS: Readonly<Record<Mark, { bold?: boolean; dimColor?: boolean; color?: string }>> = {
  title: { bold: true },
  plain: {},
  dim: { dimColor: true },
  near: { color: 'yellow' },
  over: { color: 'red', bold: true },
}

export function Live({ look, intervalMs, coloured }: LiveProps): ReactElement {
  const { exit } = useApp()
  const { stdout } = useStdout()
  const [history, setHistory] = useState<readonly Snapshot[]>(() => [look()])
  const [rows, setRows] = useState(stdout.rows ?? 24)
  const [top, setTop] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => setHistory((kept) => [...kept.slice(1 - KEPT), look()]), intervalMs)
    return () => clearInterval(timer)
  }, [look, intervalMs])
  useEffect(() => {
    const resized = (): void => setRows(stdout.rows ?? 24)
    stdout.on('resize', resized)
    return () => {
      stdout.off('resize', resized)
    }
  }, [stdout])
  const lines = screen(history)
  const room = Math.max(1, rows - 2)
  const most = Math.max(0, lines.length - room)
  useInput((input, key) => {
    if (input === 'q' || key.escape) exit()
    if (key.downArrow || input === 'j') setTop((at) => Math.min(at + 1, most))
    if (key.upArrow || input === 'k') setTop((at) => Math.max(0, at - 1))
  })
  const from = Math.min(top, most)
  const shown = lines.slice(from, from + room)
  const help =
    most > 0 ? `q quits, arrows scroll (${from + 1} to ${from + shown.length} of ${lines.length})` : 'q quits'
  return h(
    Box,
    { flexDirection: 'column' },
    ...shown.map((line, i) => row(line, from + i, coloured)),
    row({ text: help, mark: 'dim' }, -1, coloured),
  )
}

function row({ text, mark }: ScreenLine, key: number, coloured: boolean): ReactElement {
  // Without colour, what matters is marked with a sign.
  const plain = mark === 'over' ? `! ${text.replace(/^ {2}/, '')}` : text
  const look = coloured ? LOOKS[mark] : mark === 'title' ? { bold: true } : {}
  return h(Text, { key, wrap: 'truncate-end', ...look }, (coloured ? text : plain) || ' ')
}
