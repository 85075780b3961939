import { ERRNO, kernelProfile } from '@netmem/base'
import { describe, expect, it } from 'vitest'
import { bootKernel } from './boot.js'
import { packetInject } from './packet-inject.js'
import { assertQuiescent, auditKernel, trackSteps } from './testing.js'

describe('a frame sent as a raw packet', () => {
  it('may exceed the MTU by four bytes only when they are a VLAN tag', () => {
    const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64') })
    trackSteps(kernel)
    const process = kernel.spawn()
    const net = kernel.initNet
    kernel.links.vethCreate({ net, name: 'v0' }, { net, name: 'v1' })
    for (const name of ['v0', 'v1']) kernel.links.setUp(kernel.links.device(net, name), true)
    const send = (len: number, etherType: number): number => {
      const frame = new Uint8Array(len)
      frame[12] = etherType >> 8
      frame[13] = etherType & 0xff
      return packetInject(process, kernel.links.device(net, 'v0'), frame)
    }
    expect([1514, 1515, 1518, 1519].map((len) => send(len, 0x88b5))).toEqual([1514, ...Array(3).fill(-ERRNO.EMSGSIZE)])
    expect([1518, 1519].map((len) => send(len, 0x8100))).toEqual([1518, -ERRNO.EMSGSIZE])
    kernel.exit(process)
    kernel.links.remove(kernel.links.device(net, 'v0'))
    auditKernel(kernel)
    assertQuiescent(kernel)
  })
})
