/**
 * Ids of allocations are labels: a trace's `a6` is some object of the model's, always the same one. Two
 * lists of events are equal when one renaming, kept over the whole trace, turns the one into the other.
 */
import { isJsonObject, type Json, type JsonObject, sameJson } from '../trace/json.js'

/** Fields that hold a label. */
const LABELS: ReadonlySet<string> = new Set(['id', 'pool'])

/** A label taken apart: `a6+224` is 224 bytes into `a6`; `p0..p63` a run of labels. */
const splitOffset = (label: string): readonly [string, string] => {
  const plus = label.indexOf('+')
  return plus < 0 ? [label, ''] : [label.slice(0, plus), label.slice(plus)]
}

/** @returns the labels of `p0..p63` one by one, or the label itself. */
function expandRun(label: string): string[] {
  const match = /^([a-z]+)(\d+)\.\.[a-z]+(\d+)$/.exec(label)
  if (match === null) return [label]
  const [, prefix, first, last] = match
  return Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => `${prefix}${Number(first) + i}`)
}

export class IdBijection {
  private expectedToActual = new Map<string, string>()
  private actualToExpected = new Map<string, string>()

  /**
   * @returns whether the two lists are equal up to renaming. What a list that is equal teaches about labels is
   * kept for the lists that follow; a list that differs teaches nothing.
   */
  sameEvents(expected: Json | undefined, actual: Json | undefined): boolean {
    if (!Array.isArray(expected) || !Array.isArray(actual) || expected.length !== actual.length) return false
    const forward = new Map(this.expectedToActual)
    const back = new Map(this.actualToExpected)
    for (let i = 0; i < expected.length; i++) {
      const want = expected[i] as Json
      const got = actual[i] as Json
      if (!isJsonObject(want) || !isJsonObject(got) || !sameFields(want, got)) return false
      for (const key of LABELS)
        if (key in want && !bind(forward, back, String(want[key]), String(got[key]))) return false
    }
    this.expectedToActual = forward
    this.actualToExpected = back
    return true
  }
}

/** Everything but the labels' names must be equal. */
function sameFields(want: JsonObject, got: JsonObject): boolean {
  const keys = Object.keys(want)
  if (keys.length !== Object.keys(got).length) return false
  return keys.every((key) => Object.hasOwn(got, key) && (LABELS.has(key) || sameJson(want[key], got[key])))
}

function bind(forward: Map<string, string>, back: Map<string, string>, want: string, got: string): boolean {
  const wants = expandRun(want)
  const gots = expandRun(got)
  if (wants.length !== gots.length) return false
  return wants.every((label, i) => {
    const [wantBase, wantOffset] = splitOffset(label)
    const [gotBase, gotOffset] = splitOffset(gots[i]!)
    if (wantOffset !== gotOffset) return false
    const known = forward.get(wantBase)
    if (known !== undefined || back.has(gotBase)) return known === gotBase && back.get(gotBase) === wantBase
    forward.set(wantBase, gotBase)
    back.set(gotBase, wantBase)
    return true
  })
}
