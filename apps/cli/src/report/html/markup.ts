/** Pieces of HTML. Whatever comes from a capture or a user is text, never markup. */

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** Text as it may stand in an element or an attribute. */
export const text = (words: string): string => words.replace(/[&<>"']/g, (sign) => ENTITIES[sign]!)

/** JSON as it may stand in a script element: nothing in it can end the element. */
export const scriptJson = (value: unknown): string => JSON.stringify(value).replaceAll('<', '\\u003c')

export const section = (title: string, about: string, ...body: readonly string[]): string =>
  `<section><h2>${text(title)}</h2><p class="dim">${text(about)}</p>${body.join('')}</section>`

export interface Column {
  readonly title: string
  readonly number?: boolean
}

/** @param rows cells as markup. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const kind = (i: number): string => (columns[i]!.number === true ? ' class="n"' : '')
  const head = columns.map(({ title }, i) => `<th${kind(i)}>${text(title)}</th>`).join('')
  const body = rows
    .map(
      (row) =>
        `<tr>${row.map((cell, i) => (cell.startsWith('<td') ? cell : `<td${kind(i)}>${cell}</td>`)).join('')}</tr>`,
    )
    .join('')
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`
}

/** A table cell with a bar. @param share 0 to 1. */
export const barCell = (share: number, colour = 'k0'): string =>
  `<td class="bar"><i style="width:${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%;background:var(--${colour})"></i></td>`

export const key = (colour: string): string => `<span class="key" style="background:var(--${colour})"></span>`
