import { describe, expect, it } from 'vitest'
import { parseTrace, TraceFormatError } from './document.js'

const trace = (over: object = {}): object => ({
  schema: 'netmem-trace/1',
  name: 'question',
  family: 'udp-rcvbuf',
  about: 'what a test needs',
  profile: 'linux-6.18-x86_64',
  sysctl: {},
  steps: [{ do: 'recv', id: 'rx', len: 10, expect: { ret: 10 } }],
  ...over,
})

const complaint = (json: unknown, strict = false): string => {
  try {
    parseTrace(json, { strict })
  } catch (error) {
    if (error instanceof TraceFormatError) return error.message
    throw error
  }
  return 'accepted'
}

describe('a trace as a document', () => {
  it('is a verb, arguments and an expectation per step', () => {
    const document = parseTrace(trace())
    expect(document.steps).toEqual([{ do: 'recv', args: { id: 'rx', len: 10 }, expect: { ret: 10 } }])
    expect(parseTrace(trace({ steps: [{ do: 'recv', id: 'rx', len: 1 }] })).steps[0]!.expect).toEqual({})
  })

  it('is refused with the place, what is there and what would be right', () => {
    expect(complaint([])).toBe(
      'document: expected an object with "schema", "name", "family", "profile" and "steps", got []',
    )
    expect(complaint(trace({ schema: 'x/1' }))).toBe('schema: expected "netmem-trace/1", got "x/1"')
    expect(complaint(trace({ profile: 'linux-7' }))).toBe(
      'profile: expected one of linux-6.18-x86_64, linux-6.1-x86_64, got "linux-7"',
    )
    expect(complaint(trace({ sysctl: { 'net.core.rmem_max': 5 } }))).toBe(
      'sysctl["net.core.rmem_max"]: expected a text, as written to /proc/sys, got 5',
    )
    expect(complaint(trace({ steps: [{ do: 'recv', id: 'rx', len: '10' }] }))).toBe(
      'steps[0].len: expected an integer of at least 0, got "10"',
    )
    expect(complaint(trace({ steps: [{ do: 'recv', len: 10 }] }))).toBe(
      'steps[0].id: "recv" needs it: a non-empty text',
    )
    expect(complaint(trace({ steps: [{ id: 'rx' }] }))).toBe('steps[0].do: expected the name of a verb, got nothing')
  })

  it('says where inside an operation of an allocation trace', () => {
    const repeat = { do: 'repeat', times: 2, ops: [{ do: 'send', id: 'tx' }] }
    expect(complaint(trace({ family: 'alloc', steps: [{ do: 'alloc_summary', op: repeat }] }))).toBe(
      'steps[0].op.ops[0].len: "send" needs it: an integer of at least 0',
    )
  })

  it('may use a verb that nobody knows, which is reported when it plays, and unknown arguments unless asked to be strict', () => {
    expect(complaint(trace({ steps: [{ do: 'levitate', height: 3 }] }))).toBe('accepted')
    const step = { do: 'recv', id: 'rx', len: 1, lenght: 2 }
    expect(complaint(trace({ steps: [step] }))).toBe('accepted')
    expect(complaint(trace({ steps: [step] }), true)).toBe('steps[0].lenght: "recv" takes id, len, flags, to')
  })

  it('reads a name in the dialect of its family', () => {
    const send = { do: 'send', id: 'tx', len: 10, gso: 5 }
    expect(complaint(trace({ family: 'veth-rx', steps: [send] }), true)).toBe('accepted')
    expect(complaint(trace({ steps: [send] }), true)).toContain('steps[0].gso')
  })
})
