/** UDP of one machine: its protocols, its table, and the objects that calls reuse. */

import type { Cpu } from '@netmem/base'
import { ERRNO } from '@netmem/base'
import { PageFrag } from '@netmem/page-frag'
import { SkbQueue } from '@netmem/skbuff'
import { type Msg, Proto, protoRegister, type Sock, sharedProtoState } from '@netmem/sockmem'
import type { InetEnv } from '../inet-env.js'
import { Cork, IpcmCookie } from '../ip/cork.js'
import { MsgSource, type ZeroCopyAppend } from '../ip/ip-append.js'
import { PageMsg } from '../page-msg.js'
import { udpSk } from './udp-sock.js'
import { UdpTable } from './udp-table.js'

export class Udp {
  readonly table = new UdpTable()
  /** Models `udp_prot` and `udpv6_prot`: one count, two names. */
  readonly proto: Proto
  readonly proto6: Proto
  /** For datagrams made in one call; a second one cannot begin before the first left. */
  readonly cork = new Cork()
  readonly ipc = new IpcmCookie()
  readonly source = new MsgSource()
  readonly pageMsg = new PageMsg()
  readonly scratch: SkbQueue
  /** For sockets that may not use their task's fragment. */
  readonly pfrag = new PageFrag()
  readonly peek = { offset: 0 }
  /** A device without checksum offload gets segments made in software. */
  readonly gsoSoftware: boolean
  /** What a segment longer than the MTU answers. */
  readonly gsoTooLong: number
  /** Sockets have producer queues, one per node. */
  readonly nodes: number
  /**
   * What makes a send by reference (MSG_ZEROCOPY, MSG_SPLICE_PAGES), filled by the zero-copy layer; null answers mean
   * an ordinary copy.
   */
  zeroCopy: ((cpu: Cpu, sk: Sock, msg: Msg) => ZeroCopyAppend | null) | null = null

  constructor(readonly env: InetEnv) {
    const { structs, features } = env.profile
    const { memory } = sharedProtoState(env.socks)
    const common = {
      memory,
      sysctlMem: env.socks.udpMem,
      rmemMin: (net: { udpRmemMin: Float64Array }) => net.udpRmemMin[0],
      wmemMin: (net: { udpWmemMin: Float64Array }) => net.udpWmemMin[0],
      methods: 'close,connect,disconnect,ioctl,init,destroy,setsockopt,getsockopt,sendmsg,recvmsg,hash,unhash,get_port',
      isUdp: true,
    }
    this.proto = new Proto({ ...common, name: 'UDP', objSize: structs.udp_sock.size })
    this.proto6 = new Proto({ ...common, name: 'UDPv6', objSize: structs.udp6_sock.size })
    for (const proto of [this.proto, this.proto6])
      proto.ownQueues = (sk, queue) => {
        queue(udpSk(sk).readerQueue.first, 'reader queue')
        for (const { first } of udpSk(sk).prodQueues) queue(first, 'producer queue')
      }
    protoRegister(env.socks, this.proto)
    protoRegister(env.socks, this.proto6)
    this.scratch = new SkbQueue(env.skbs)
    this.gsoSoftware = features.udpGsoSoftware
    this.gsoTooLong = features.udpGsoSoftware ? -ERRNO.EMSGSIZE : -ERRNO.EINVAL
    this.nodes = features.udpProducerQueue ? Math.max(...env.socks.cpus.map((cpu) => cpu.node)) + 1 : 0
  }
}

/** @returns this machine's UDP. */
export const udpOf = (env: InetEnv): Udp => env.owned.udp as Udp
