/** Audits of the Internet protocols: UDP's queues and the fragments that wait for their rest. */

import { auditMsgZerocopy } from '@netmem/zerocopy/testing'
import type { InetEnv } from './inet-env.js'
import { INET_FRAG_COMPLETE } from './inet-fragment.js'
import { auditTcp } from './tcp/tcp-audit.js'
import { tcpOf } from './tcp/tcp-init.js'
import { UdpSock } from './udp/udp-sock.js'

const check = (ok: boolean, words: () => string): void => {
  if (!ok) throw new Error(`inet audit: ${words()}`)
}

/** Proves for every UDP socket: receive memory is what is queued and what was read but not given back yet. */
export function auditUdp(env: InetEnv): void {
  const { skbs } = env.skbs
  for (const sk of env.socks.socks) {
    if (sk === null || !(sk.priv instanceof UdpSock)) continue
    const up = sk.priv
    let queued = up.forwardDeficit
    for (const first of [sk.receiveQueue.first, up.readerQueue.first])
      for (let id = first; id !== 0; id = skbs[id]!.next) queued += skbs[id]!.devScratch
    for (let id = sk.errorQueue.first; id !== 0; id = skbs[id]!.next)
      if (skbs[id]!.destructor === env.socks.sockRmemFree) queued += skbs[id]!.truesize
    check(sk.rmemAlloc === queued, () => `UDP socket ${sk.id}: rmem_alloc ${sk.rmemAlloc}, queued and owed ${queued}`)
    for (const prod of up.prodQueues)
      check(prod.first === 0 && prod.rmemAlloc === 0, () => `UDP socket ${sk.id}: a producer queue is not empty`)
  }
}

/** Proves for every namespace: fragment memory is what the queues and their fragments take. */
export function auditFrags(env: InetEnv): void {
  for (const net of env.nets) {
    if (net === undefined) continue
    for (const fqdir of [net.frags, net.frags6]) {
      let mem = 0
      let queues = 0
      for (const first of fqdir.frags.table)
        for (let at = first; at !== 0; at = fqdir.frags.bodies[at - 1]!.hashNext) {
          const queue = fqdir.frags.bodies[at - 1]!
          if (queue.fqdir !== fqdir) continue
          check((queue.flags & INET_FRAG_COMPLETE) === 0 && queue.timer !== 0, () => 'a finished queue is in the table')
          queues += 1
          mem += fqdir.frags.queueBytes
          for (let id = queue.first; id !== 0; id = env.skbs.skbs[id]!.next) mem += env.skbs.skbs[id]!.truesize
        }
      check(fqdir.mem === mem, () => `fragments of namespace ${fqdir.ns}: counts ${fqdir.mem} bytes, holds ${mem}`)
      check(
        fqdir.queues === queues,
        () => `fragments of namespace ${fqdir.ns}: counts ${fqdir.queues} queues, has ${queues}`,
      )
    }
  }
}

/** All audits of this package. */
export function auditInet(env: InetEnv): void {
  auditUdp(env)
  auditFrags(env)
  auditTcp(tcpOf(env))
  auditMsgZerocopy(env.zerocopy)
}

export { auditTcp, auditTcpSock } from './tcp/tcp-audit.js'
