/** `netmem size`: which number to set for a load. */
import { EXIT_NO } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import { byteSize, durationNs, kernelOf, powerOfTwo, rateBytes, whole } from '../quantities.js'
import { sizeText } from '../report/size-text.js'
import type { SizeAnswer } from '../sizing/answer.js'
import type { StallQuestion } from '../sizing/frames-in-stall.js'

type Options = Readonly<Record<string, unknown>>

function print(answer: SizeAnswer, options: Options): void {
  if (options.json) writeJson(answer)
  else writeText(sizeText(answer))
  if (answer.problem !== null) process.exitCode = EXIT_NO
}

/** @throws InputError */
export async function sizeTcpMemCommand(options: Options): Promise<void> {
  const { sizeTcpMem } = await import('../sizing/tcp-mem.js')
  print(
    sizeTcpMem({
      profile: kernelOf(String(options.kernel)),
      connections: whole('--connections', String(options.connections), 1, 10_000_000),
      rttNs: durationNs('--rtt', String(options.rtt), 1000, 60e9),
      rateBytes: rateBytes('--rate', String(options.rate)),
      memoryBytes:
        options.memory === undefined ? null : byteSize('--memory', String(options.memory), 1 << 20, 2 ** 52, 1024),
    }),
    options,
  )
}

/** What all questions about rings have. @throws InputError */
function stallOf(options: Options): StallQuestion {
  const mtu = whole('--mtu', String(options.mtu), 68, 9000)
  return {
    profile: kernelOf(String(options.kernel)),
    rateBytes: rateBytes('--rate', String(options.rate)),
    frameBytes: whole('--frame', String(options.frame ?? mtu + 14), 60, mtu + 14),
    mtu,
    stallNs: durationNs('--stall', String(options.stall), 1000, 10e9),
  }
}

/** @throws InputError */
export async function sizeNicRingCommand(options: Options): Promise<void> {
  const { sizeNicRing } = await import('../sizing/nic-ring.js')
  const queues = whole('--queues', String(options.queues), 1, 1024)
  print(sizeNicRing({ ...stallOf(options), queues }), options)
}

/** @throws InputError */
export async function sizePacketRingCommand(options: Options): Promise<void> {
  const { sizePacketRing } = await import('../sizing/packet-ring.js')
  print(sizePacketRing(stallOf(options)), options)
}

/** @throws InputError */
export async function sizeUmemCommand(options: Options): Promise<void> {
  const { sizeUmem } = await import('../sizing/umem.js')
  print(sizeUmem(stallOf(options)), options)
}

/** @throws InputError */
export async function sizeSwiotlbCommand(options: Options): Promise<void> {
  const { sizeSwiotlb } = await import('../sizing/swiotlb.js')
  print(
    sizeSwiotlb({
      profile: kernelOf(String(options.kernel)),
      nics: whole('--nics', String(options.nics), 1, 1024),
      queues: whole('--queues', String(options.queues), 1, 1024),
      ring: powerOfTwo('--ring', String(options.ring), 16, 16384),
      txRing: powerOfTwo('--tx-ring', String(options.txRing), 16, 16384),
      mtu: whole('--mtu', String(options.mtu), 68, 9000),
    }),
    options,
  )
}
