/** Verbs that set and read options, and those that look at a socket. */
import { SO, SOL_SOCKET } from '@netmem/sockmem'
import { sysGetsockopt, sysSetsockopt } from '../syscalls.js'
import { optionByName, SOL_TCP, TCP_OPTIONS } from '../uapi.js'
import { type Answer, UnsupportedVerb, zeroAnswer } from './answer.js'
import { meminfo, meminfoAnswer } from './calls.js'
import type { VerbHandlers } from './handlers.js'
import type { PlayerWorld } from './world.js'

/** Models the offsets of `struct tcp_info` (include/uapi/linux/tcp.h) that traces ask for. */
const TCP_INFO_OFFSETS: Readonly<Record<string, number>> = {
  snd_mss: 16,
  rcv_mss: 20,
  unacked: 24,
  pmtu: 60,
  rcv_ssthresh: 64,
  snd_cwnd: 80,
  advmss: 84,
  rcv_space: 96,
  total_retrans: 100,
  segs_out: 136,
  segs_in: 140,
  notsent_bytes: 144,
  data_segs_in: 152,
  data_segs_out: 156,
  rcv_ooopack: 224,
  snd_wnd: 228,
  rcv_wnd: 232,
}

// BPF_LD|BPF_W|BPF_IMM and BPF_RET|BPF_K of classic BPF.
const BPF_LD_IMM = 0
const BPF_RET_K = 6

/** A program of `insns - 1` loads of zero, then one that accepts the whole packet. */
function acceptingProgram(insns: number): Int32Array {
  const program = new Int32Array(4 * insns)
  for (let i = 0; i < insns; i++) program[4 * i] = BPF_LD_IMM
  program[4 * (insns - 1)] = BPF_RET_K
  program[4 * (insns - 1) + 3] = -1
  return program
}

function optionNumbers(name: string): { level: number; opt: number } {
  const found = optionByName(name)
  if (found === null) throw new UnsupportedVerb(`no option "${name}"`)
  return found
}

function setOption(world: PlayerWorld, id: string, name: string, value: number, len: number): Answer {
  const { level, opt } = optionNumbers(name)
  const { val } = world.process
  val.int = value | 0
  val.words.fill(0)
  val.words[0] = value | 0
  val.len = len
  val.program = null
  return zeroAnswer(sysSetsockopt(world.process, world.fd(id), level, opt, val))
}

export const optionHandlers: VerbHandlers = {
  setsockopt: (world, args) =>
    setOption(
      world,
      args.id as string,
      args.opt as string,
      args.value as number,
      (args.optlen as number | undefined) ?? 4,
    ),

  getsockopt: (world, args) => {
    const { level, opt } = optionNumbers(args.opt as string)
    const { val } = world.process
    val.int = 0
    val.len = 4
    const err = sysGetsockopt(world.process, world.fd(args.id as string), level, opt, val)
    return err < 0 ? zeroAnswer(err) : { ret: 0, value: val.int }
  },

  attach_filter: (world, args) => {
    const { val } = world.process
    val.program = acceptingProgram(args.insns as number)
    val.len = 16
    const err = sysSetsockopt(world.process, world.fd(args.id as string), SOL_SOCKET, SO.SO_ATTACH_FILTER, val)
    val.program = null
    return zeroAnswer(err)
  },

  detach_filter: (world, args) => setOption(world, args.id as string, 'SO_DETACH_FILTER', 0, 4),

  meminfo: (world, args) => {
    const words = meminfo(world.process, world.fd(args.id as string))
    return words === null ? { errno: 'EBADF' } : meminfoAnswer(words, false)
  },

  tcpinfo: (world, args) => {
    const info = world.kernel.tcpInfo(world.process, world.fd(args.id as string))
    if (info === null) return { errno: 'EOPNOTSUPP' }
    const answer: Answer = {}
    for (const key of args.keys as readonly string[]) {
      if (TCP_INFO_OFFSETS[key] === undefined) throw new UnsupportedVerb(`no field "${key}" of TCP_INFO`)
      const value = info[key]
      if (value !== undefined) answer[key] = value
    }
    return answer
  },
}

/** TCP_INFO is read by name, not by offset; the option's number is here for completeness. */
export const TCP_INFO_OPTION = { level: SOL_TCP, opt: TCP_OPTIONS.TCP_INFO } as const
