import { kernelProfile } from '@netmem/base'
import { bootKernel, Calls } from '@netmem/kernel-model'
import { AF_INET, SO, SOCK_DGRAM, SOL_SOCKET, SockAddr } from '@netmem/sockmem'

// How many 1-byte datagrams fit a receive buffer of 16 KiB, and what says so when the next one does not?
const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64') })
const calls = new Calls(kernel.spawn())

const address = new SockAddr()
address.family = AF_INET
address.addr = 0x7f000001
address.port = 5000

const rx = calls.socket(AF_INET, SOCK_DGRAM)
calls.setsockopt(rx, SOL_SOCKET, SO.SO_RCVBUF, 8192) // the kernel doubles it
calls.bind(rx, address)
const tx = calls.socket(AF_INET, SOCK_DGRAM)
calls.connect(tx, address)

const reasons: string[] = []
kernel.trace.kfreeSkb = (_cpu, _skb, _location, _protocol, reason) => reasons.push(reason)
let sent = 0
while (reasons.length === 0) {
  calls.send(tx, 1)
  sent += 1
}

const fitted = sent - 1
if (fitted !== 19) throw new Error(`${fitted} datagrams of 832 bytes fitted 16384 bytes, not 19`)
if (reasons[0] !== 'SOCKET_RCVBUFF') throw new Error(`dropped for ${reasons[0]}`)
if (kernel.initNet.ns.counter('Udp.RcvbufErrors') !== 1) throw new Error('the drop was not counted')
