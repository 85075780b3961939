import { expect, it } from 'vitest'
import { scale } from './scale.js'

it('measures a machine with as many sockets as asked for', () => {
  const result = scale(20, 30, 100)
  expect(result).toMatchObject({ tcp: 20, udp: 30 })
  expect(result.nsPerUdpPacket).toBeGreaterThan(0)
  expect(result.nsPerTcpWrite).toBeGreaterThan(0)
}, 60_000)
