/** Connections for tests, and a wire between IP and TCP that loses, delays, repeats and reorders. */
import type { Cpu, Prng } from '@netmem/base'
import { kfreeSkb, type SkBuff, skbClone } from '@netmem/skbuff'
import { AF_INET, SOCK_STREAM, type Sock, sockCreate } from '@netmem/sockmem'
import { localBhEnable } from '@netmem/virtual-nic'
import type { NetProtocol } from '../inet-env.js'
import type { TestInet } from '../testing.js'

const IPPROTO_TCP = 6

/** A new TCP socket. @throws Error with the errno. */
export function tcpSocket(m: TestInet, family = AF_INET): Sock {
  const id = sockCreate(m.socks, m.cpu, m.task, family, SOCK_STREAM, 0)
  if (id < 0) throw new Error(`socket: ${id}`)
  return m.socks.socks[id]!
}

/** A listener on a port of any address. @throws Error with the errno; nothing is left then. */
export function tcpListener(m: TestInet, port: number, family = AF_INET): Sock {
  const sk = tcpSocket(m, family)
  const to = m.to(port, family)
  to.addr = 0
  to.addr6.fill(0)
  const err = sk.ops.bind(m.cpu, m.task, sk, to) || sk.ops.listen(m.cpu, m.task, sk, 8)
  if (err !== 0) {
    m.close(sk)
    throw new Error(`listen: ${err}`)
  }
  return sk
}

export interface TcpPair {
  readonly listener: Sock
  readonly client: Sock
  readonly server: Sock
}

/** Two connected sockets. @param prepare sets options on listener and client before they meet. */
export function tcpPair(m: TestInet, family = AF_INET, prepare: (sk: Sock) => void = () => {}): TcpPair {
  const listener = tcpListener(m, 8000, family)
  const client = tcpSocket(m, family)
  prepare(listener)
  prepare(client)
  const err = m.connect(client, 8000)
  if (err !== 0 && err !== -115) throw new Error(`connect: ${err}`)
  const server = accept(m, listener)
  return { listener, client, server }
}

/** Waits for a child. @throws Error when none comes in a minute of virtual time. */
export function accept(m: TestInet, listener: Sock): Sock {
  for (let i = 0; i < 600; i++) {
    const id = listener.ops.accept(m.cpu, m.task, listener, 0)
    if (id > 0) return m.socks.socks[id]!
    m.passTime(100e6)
  }
  throw new Error('nobody to accept')
}

/** What a wire does to segments; shares of one. */
export interface Wire {
  readonly loss: number
  readonly twice: number
  /** Each segment takes between these, in ns: the wider apart, the more overtake each other. */
  readonly minNs: number
  readonly maxNs: number
}

/** Puts a wire between IP and TCP of a machine, both families. */
export function tcpWire(m: TestInet, wire: Wire, rng: Prng): void {
  const { inet, net } = m
  const waiting: (SkBuff | null)[] = []
  for (const table of [inet.protos, inet.protos6]) {
    const real = table[IPPROTO_TCP] as NetProtocol
    const arrive = net.clock.register((at) => {
      const skb = waiting[at] as SkBuff
      waiting[at] = null
      const cpu: Cpu = m.cpu
      cpu.bhDisabled += 1
      cpu.servingSoftirq += 1
      real.handler(cpu, skb)
      cpu.servingSoftirq -= 1
      localBhEnable(net.env, cpu)
    })
    const send = (skb: SkBuff): void => {
      const delay = wire.minNs + rng.below(Math.max(1, wire.maxNs - wire.minNs))
      net.clock.schedule(net.clock.nowNs + delay, arrive, waiting.push(skb) - 1)
    }
    table[IPPROTO_TCP] = {
      protocol: IPPROTO_TCP,
      handler: (cpu, skb) => {
        const twin = rng.below(1000) < wire.twice * 1000 ? skbClone(cpu, skb, net.mem.gfp.GFP_ATOMIC) : null
        if (twin !== null) send(twin)
        if (rng.below(1000) < wire.loss * 1000) kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'tcp_wire')
        else send(skb)
        return 0
      },
    }
  }
}

/** The byte that a stream has at a position: a hash, so that no shift of the stream looks like itself. */
export const streamByte = (position: number): number => (Math.imul(position + 1, 0x9e3779b1) >>> 24) & 0xff

export const streamBytes = (from: number, count: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => streamByte(from + i))
