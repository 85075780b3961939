/** Numbers as people read them, always with their unit; and the few marks a terminal report is made of. */

/** @returns `832 B`, `1.2 kB`, `3.4 MB` in decimal units, three digits. */
export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = Math.abs(bytes)
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  const sign = bytes < 0 ? '-' : ''
  if (unit === 0) return `${sign}${Math.round(value)} B`
  return `${sign}${value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2)} ${units[unit]}`
}

/** Memory as it is built: `1 GiB`, `512 MiB`. */
export function memoryText(bytes: number): string {
  const gib = bytes / 1024 ** 3
  if (gib >= 1) return `${Number(gib.toFixed(2))} GiB`
  return `${Number((bytes / 1024 ** 2).toFixed(1))} MiB`
}

/** @returns `1 234 567` with thin groups of three. */
export function countText(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+(?!\d))/g, ' ')
}

/** @returns `1 packet`, `1 234 packets`. */
export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${countText(count)} ${count === 1 ? one : many}`

/** @returns `820 ns`, `1.50 ms`, `12.3 s`, `2 h 5 min`. */
export function durationText(ns: number): string {
  if (ns < 1000) return `${Math.round(ns)} ns`
  if (ns < 999_500) return `${three(ns / 1e3)} µs`
  if (ns < 999_500_000) return `${three(ns / 1e6)} ms`
  if (ns < 59.95e9) return `${three(ns / 1e9)} s`
  const minutes = Math.round(ns / 60e9)
  if (minutes < 60) return `${minutes} min`
  return `${countText(Math.floor(minutes / 60))} h ${minutes % 60} min`
}

const three = (value: number): string =>
  value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2)

/** @returns `97.3 %`; never rounds something up to 100 or down to 0. */
export function percentText(part: number, whole: number): string {
  if (whole === 0) return '-'
  const percent = (100 * part) / whole
  if (percent > 0 && percent < 0.1) return '< 0.1 %'
  if (percent < 100 && percent > 99.9) return '> 99.9 %'
  return `${percent === 0 || percent === 100 ? percent.toFixed(0) : percent.toFixed(1)} %`
}

const BARS = ' ▁▂▃▄▅▆▇█'

/** @returns one character per value, its height the value's share of the largest. */
export function sparkline(values: readonly number[], most = Math.max(0, ...values)): string {
  return values
    .map((value) => (value <= 0 || most <= 0 ? ' ' : BARS[Math.max(1, Math.ceil((value / most) * 8))]))
    .join('')
}

/** Width on the terminal: colour codes take none. */
export const widthOf = (text: string): number =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes start with the escape character
  text.replace(/\u001b\[[0-9;]*m/g, '').length

export const padEnd = (text: string, width: number): string => text + ' '.repeat(Math.max(0, width - widthOf(text)))
export const padStart = (text: string, width: number): string => ' '.repeat(Math.max(0, width - widthOf(text))) + text

/** Rows in columns two spaces apart. @param right indices of the columns that hold numbers. */
export function columns(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths: number[] = []
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, widthOf(cell))
  return rows.map((row) =>
    row
      .map((cell, i) => (right.includes(i) ? padStart(cell, widths[i]) : padEnd(cell, widths[i])))
      .join('  ')
      .trimEnd(),
  )
}

/** @returns the words in lines of at most `width` characters; a longer word has a line of its own. */
export function wrapped(words: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of words.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}
