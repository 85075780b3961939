/** Files, pipes and splices as operations of allocation traces. */
import { Loff, SPLICE_F_NONBLOCK } from '@netmem/zerocopy'
import { sysSendfile, sysSplice, sysVmsplice } from '../splice-calls.js'
import { flagBits, SPLICE_FLAGS } from '../uapi.js'
import type { Operation } from './alloc-operations.js'
import { keepPipe, writtenMemfd } from './file-verbs.js'

export const allocSpliceOperations: Readonly<Record<string, Operation>> = {
  file: (world, op) => world.keep(op.id as string, writtenMemfd(world, op.len as number)),

  pipe: (world, op) => {
    const [reading, writing] = op.ids as readonly string[]
    return keepPipe(world, reading!, writing!)
  },

  sendfile: (world, op) =>
    sysSendfile(
      world.process,
      world.fd(op.id as string),
      world.fd(op.file as string),
      new Loff(op.offset as number),
      op.len as number,
    ),

  splice: (world, op) => {
    const flags = flagBits(op.flags, SPLICE_FLAGS)
    const from = world.fd(op.from as string)
    return sysSplice(world.process, from, null, world.fd(op.to as string), null, op.len as number, flags)
  },

  vmsplice: (world, op) =>
    sysVmsplice(
      world.process,
      world.fd(op.to as string),
      op.len as number,
      SPLICE_F_NONBLOCK,
      (op.at as number | undefined) ?? 0,
    ),
}
