/**
 * Every case by name. A case is loaded only when it runs, in a process of its own. The model's cases are the
 * packages' own benchmarks (`packages/x/bench`), in full size.
 */
import type { BenchCase } from '../harness.js'
import { allocUnsafe, newUint8Array } from '../peers/buffers.js'
import { flatqueueHold } from '../peers/event-queues.js'

/** Packages export their cases as functions that make one, or as objects that are set up before they run. */
type PackageCase = (() => BenchCase) | (BenchCase & { setup(): void })

function made(cases: Readonly<Record<string, PackageCase>>, name: string): BenchCase {
  const found = cases[name]
  if (found === undefined) throw new RangeError(`the package has no benchmark "${name}"`)
  if (typeof found === 'function') return found()
  found.setup()
  return found
}

const memory = () => import('../../../../packages/memory/bench/memory.bench.js')
const skbuff = () => import('../../../../packages/skbuff/bench/skb.bench.js')
const recycle = () => import('../../../../packages/page-pool/bench/recycle.bench.js')
const rings = () => import('../../../../packages/page-pool/bench/desc-ring.bench.js')
const nic = () => import('../../../../packages/virtual-nic/bench/rx.bench.js')
const receive = () => import('../../../../packages/inet/bench/receive.bench.js')
const send = () => import('../../../../packages/kernel-model/bench/send.bench.js')
const zerocopy = () => import('../../../../packages/kernel-model/bench/zerocopy.bench.js')
const sendfile = () => import('../../../../packages/kernel-model/bench/sendfile.bench.js')
const stream = () => import('../../../../packages/kernel-model/bench/stream.bench.js')
const xdp = () => import('../../../../packages/zerocopy/bench/xdp.bench.js')
const packetRing = () => import('../../../../packages/zerocopy/bench/packet-ring.bench.js')

const GIB = 1 << 30

const table: Record<string, () => BenchCase | Promise<BenchCase>> = {
  'buffer.allocUnsafe.64': () => allocUnsafe(64),
  'buffer.allocUnsafe.2048': () => allocUnsafe(2048),
  'buffer.Uint8Array.2048': () => newUint8Array(2048),
  'flatqueue.1024': () => flatqueueHold(1024),
  'events.1024': async () => (await import('../../../../packages/base/bench/event-queue.bench.js')).holdModel(1024),
  'memory.page': async () => made((await memory()).cases, 'buddy order-0'),
  'memory.slub': async () => made((await memory()).cases, 'slub 256'),
  'memory.kmalloc': async () => made((await memory()).cases, 'kmalloc 256'),
  'skb.hot': async () => made((await skbuff()).cases, 'skb.hot'),
  'skb.window1024': async () => made((await skbuff()).cases, 'skb.window1024'),
  'skb.clone': async () => made((await skbuff()).cases, 'skb.clone'),
  'pool.fast': async () => made((await recycle()).cases, 'page_pool fast path'),
  'pool.window1024': async () => made((await recycle()).cases, 'page_pool, 1024 live'),
  'ring.single': async () => made((await rings()).cases, 'descriptor ring, single'),
  'ring.bulk32': async () => made((await rings()).cases, 'descriptor ring, bulk 32'),
  'nic.rx.64': async () => made((await nic()).cases, 'vnic.rx.64B'),
  'nic.gro.tcp': async () => made((await nic()).cases, 'vnic.gro.tcp'),
  'rx.64': async () => made((await receive()).cases, 'rx.64B'),
  'rx.1400': async () => made((await receive()).cases, 'rx.1400B'),
  'rx.device.64': async () => made((await receive()).cases, 'rx.device.64B'),
  'rx.device.1400': async () => made((await receive()).cases, 'rx.device.1400B'),
  'rx.inPlace.64': async () => made((await receive()).cases, 'rx.inPlace.64B'),
  'rx.traced.64': async () => made((await receive()).cases, 'rx.traced.64B'),
  'xdp.zc.64': async () => made((await xdp()).cases, 'xdp.zc.64B'),
  'xdp.zc.1400': async () => made((await xdp()).cases, 'xdp.zc.1400B'),
  'xdp.copy.64': async () => made((await xdp()).cases, 'xdp.copy.64B'),
  'packet.v3.64': async () => made((await packetRing()).cases, 'packet.v3.64B'),
  'packet.v3.1400': async () => made((await packetRing()).cases, 'packet.v3.1400B'),
  'tx.copy.64K': async () => made((await zerocopy()).cases, 'tx.copy.64K'),
  'tx.zerocopy.64K': async () => made((await zerocopy()).cases, 'tx.zerocopy.64K'),
  'tx.64': async () => made((await send()).cases, 'tx.64B'),
  'stream.lo.64K': async () => made((await stream()).cases, 'tcp.loopback.64K'),
  'veth.64': async () => made((await send()).cases, 'veth.64B'),
  'sendfile.1G': async () => made({ case: (await sendfile()).sendfileCase(GIB, true) }, 'case'),
  'readSend.1G': async () => made({ case: (await sendfile()).sendfileCase(GIB, false) }, 'case'),
}

/** Cases of a whole path run as `netmem replay` does: the compiler may inline more of one function than it would. */
const WHOLE_PATH = /^(nic|packet|rx|stream|tx|veth|xdp|sendfile|readSend)\./
/** What `netmem replay` sets too. */
export const wholePathFlags = ['--max-inlined-bytecode-size-cumulative=6000', '--max-inlined-bytecode-size=3000']
export const isWholePath = (name: string): boolean => WHOLE_PATH.test(name)

export const caseNames = Object.keys(table)

/** @throws RangeError when there is no such case. */
export async function loadCase(name: string): Promise<BenchCase> {
  const load = table[name]
  if (load === undefined) throw new RangeError(`no benchmark case "${name}"`)
  return await load()
}
