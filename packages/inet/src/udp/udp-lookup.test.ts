/** Who gets a datagram: by address and port, connected before bound, and who may bind at all. */
import { Prng } from '@netmem/base'
import { SO, type Sock } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { INADDR_LOOPBACK } from '../ip/ip-header.js'
import { type TestInet, testInet } from '../testing.js'

const AF_INET = 2
const AF_INET6 = 10
const SOL_SOCKET = 1
const EADDRINUSE = -98
const EADDRNOTAVAIL = -99
const one = Uint8Array.of(1)

function bindTo(m: TestInet, sk: Sock, addr: number, port: number): number {
  const to = m.to(port)
  to.addr = addr
  return sk.ops.bind(m.cpu, m.task, sk, to)
}

const waiting = (sk: Sock): number => (sk.receiveQueue.first === 0 && sk.rmemAlloc === 0 ? 0 : 1)

describe('a datagram', () => {
  it('goes to the socket connected to its sender, then to the bound address, then to any', () => {
    const m = testInet()
    const tx = m.udp(6000)
    const [any, exact, connected] = [m.udp(), m.udp(), m.udp()]
    for (const sk of [any, exact, connected]) m.setsockopt(sk, SOL_SOCKET, SO.SO_REUSEADDR, 1)
    expect([bindTo(m, any, 0, 7000), bindTo(m, exact, INADDR_LOOPBACK, 7000)]).toEqual([0, 0])
    expect(bindTo(m, connected, INADDR_LOOPBACK, 7000)).toBe(0)
    m.connect(connected, 6000)
    for (const [name, taker] of [
      ['connected', connected],
      ['exact', exact],
      ['any', any],
    ] as const) {
      m.send(tx, one, 7000)
      const got = [any, exact, connected].map((sk) => typeof m.recv(sk) !== 'number')
      expect(got, name).toEqual([any, exact, connected].map((sk) => sk === taker))
      m.close(taker)
    }
    m.close(tx)
    m.end()
  })

  it('from a stranger does not reach a connected socket', () => {
    const m = testInet()
    const rx = m.udp(7000)
    m.connect(rx, 6000)
    const stranger = m.udp(6001)
    m.send(stranger, one, 7000)
    expect(waiting(rx)).toBe(0)
    m.close(stranger)
    const friend = m.udp(6000)
    m.send(friend, one, 7000)
    expect(waiting(rx)).toBe(1)
    m.close(friend)
    m.close(rx)
    m.end()
  })

  it('over IPv4 reaches an IPv6 socket that did not say it is for IPv6 only', () => {
    const m = testInet()
    const tx = m.udp()
    const dual = m.udp(-1, AF_INET6)
    const addr = m.to(7000, AF_INET6)
    addr.addr6.fill(0)
    expect(dual.ops.bind(m.cpu, m.task, dual, addr)).toBe(0)
    m.send(tx, one, 7000)
    expect(waiting(dual)).toBe(1)
    m.close(dual)
    const only = m.udp(7000, AF_INET6)
    m.send(tx, one, 7000)
    expect(waiting(only)).toBe(0)
    m.close(only)
    m.close(tx)
    m.end()
  })
})

describe('binding', () => {
  it('is refused where somebody is, and where the address is not ours', () => {
    const m = testInet()
    const [a, b] = [m.udp(7000), m.udp()]
    expect(bindTo(m, b, INADDR_LOOPBACK, 7000)).toBe(EADDRINUSE)
    expect(bindTo(m, b, 0, 7000)).toBe(EADDRINUSE)
    expect(bindTo(m, b, 0x08080808, 7001)).toBe(EADDRNOTAVAIL)
    expect(bindTo(m, b, INADDR_LOOPBACK + 1, 7000)).toBe(0)
    expect(bindTo(m, b, 0, 7002)).toBe(-22)
    m.close(a)
    m.close(b)
    m.end()
  })

  it('to port 0 finds a free port in the range, until there is none', () => {
    const m = testInet()
    const net = m.inet.nets[0]!
    net.portRange[0] = 40_000
    net.portRange[1] = 40_019
    const socks: Sock[] = []
    const ports = new Set<number>()
    for (let i = 0; i < 20; i += 1) {
      const sk = m.udp(0)
      socks.push(sk)
      ports.add(sk.num)
    }
    expect([ports.size, Math.min(...ports), Math.max(...ports)]).toEqual([20, 40_000, 40_019])
    const late = m.udp()
    expect(bindTo(m, late, 0, 0)).toBe(EADDRINUSE)
    for (const sk of [...socks, late]) m.close(sk)
    m.end()
  })

  it.each([1, 2, 3])('and closing in any order leaves each datagram with its socket (seed %i)', (seed) => {
    const rng = new Prng(seed)
    const m = testInet()
    const tx = [m.udp(), m.udp(-1, AF_INET6)] as const
    const open = new Map<string, Sock>()
    for (let step = 0; step < 400; step += 1) {
      const family = rng.below(2) === 0 ? AF_INET : AF_INET6
      const port = 7000 + rng.below(20)
      const key = `${family} ${port}`
      const sk = open.get(key)
      if (rng.below(3) === 0) {
        if (sk !== undefined) {
          m.close(sk)
          open.delete(key)
        } else open.set(key, m.udp(port, family))
        continue
      }
      m.send(family === AF_INET ? tx[0] : tx[1], Uint8Array.of(step), port)
      for (const [name, other] of open) {
        const got = m.recv(other)
        expect(typeof got === 'number' ? null : [...got], `step ${step}: ${name}`).toEqual(
          name === key ? [step & 255] : null,
        )
      }
    }
    m.audit()
    for (const sk of [...open.values(), ...tx]) m.close(sk)
    m.end()
  })
})
