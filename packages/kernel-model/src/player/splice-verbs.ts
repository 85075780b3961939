/** Verbs of sendfile, splice, tee and vmsplice. */
import { Loff } from '@netmem/zerocopy'
import { sysSendfile, sysSplice, sysTee, sysVmsplice } from '../splice-calls.js'
import type { JsonObject } from '../trace/json.js'
import { flagBits, SPLICE_FLAGS } from '../uapi.js'
import { retAnswer } from './answer.js'
import type { VerbHandlers } from './handlers.js'

/** A position that the step gives; null for the file's own. */
const given = (value: unknown): Loff | null =>
  value === undefined || value === null ? null : new Loff(value as number)

const flagsOf = (args: JsonObject): number => flagBits(args.flags, SPLICE_FLAGS)

/** Sizes are unsigned: a negative one is a very large one. */
const size = (value: unknown): number => ((value as number) < 0 ? 2 ** 64 + (value as number) : (value as number))

export const spliceHandlers: VerbHandlers = {
  sendfile: (world, args) => {
    const offset = given(args.offset)
    const out = world.fd(args.out as string)
    const ret = sysSendfile(world.process, out, world.fd(args.in as string), offset, size(args.count))
    const answer = retAnswer(ret)
    if (offset !== null) answer.offset_after = offset.pos
    return answer
  },

  splice: (world, args) => {
    const offIn = given(args.off_in)
    const offOut = given(args.off_out)
    const from = world.fd(args.from as string)
    const to = world.fd(args.to as string)
    const answer = retAnswer(sysSplice(world.process, from, offIn, to, offOut, size(args.len), flagsOf(args)))
    if (offIn !== null) answer.off_in_after = offIn.pos
    if (offOut !== null) answer.off_out_after = offOut.pos
    return answer
  },

  tee: (world, args) => {
    const from = world.fd(args.from as string)
    return retAnswer(sysTee(world.process, from, world.fd(args.to as string), size(args.len), flagsOf(args)))
  },

  vmsplice: (world, args) => {
    const offset = (args.page_offset as number | undefined) ?? 0
    return retAnswer(sysVmsplice(world.process, world.fd(args.id as string), args.len as number, flagsOf(args), offset))
  },
}
