/** Verbs that set and read sysctls and counters, and the one that lets time pass. */
import { MIB_NAMES, mibIndexOrNone } from '@netmem/sockmem'
import { StepError, zeroAnswer } from './answer.js'
import type { VerbHandlers } from './handlers.js'

export const counterHandlers: VerbHandlers = {
  sysctl: ({ kernel, process }, args) =>
    zeroAnswer(kernel.sysctlWrite(process.net, args.name as string, args.value as string)),

  sysctl_read: ({ kernel, process }, args) => {
    const value = kernel.sysctlRead(process.net, args.name as string)
    return value === null ? { errno: 'ENOENT' } : { value }
  },

  protomem: (world, args) => ({ pages: world.protocolGrowth(args.proto as 'tcp' | 'udp') }),

  netstat: (world, args) => {
    const index = mibIndexOrNone(args.counter as string)
    if (index < 0) throw new StepError(`no counter "${args.counter}" among the ${MIB_NAMES.length} there are`)
    return { value: world.counterGrowth(world.process.net, index) }
  },

  settle: ({ kernel }, args) => {
    kernel.passTime((args.ms as number) * 1e6)
    return {}
  },

  sleep: ({ kernel }, args) => {
    kernel.passTime((args.ms as number) * 1e6)
    return { ret: 0 }
  },

  link: (world, args) => {
    const dev = world.kernel.links.device(world.process.net, (args.dev as string | undefined) ?? 'lo')
    return zeroAnswer(world.kernel.links.setMtu(dev, args.mtu as number))
  },
}
