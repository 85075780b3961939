/** Owning a TCP socket while a user is inside a call on it. */
import type { Cpu } from '@netmem/base'
import { releaseBacklog, type Sock } from '@netmem/sockmem'
import { localBhDisable, localBhEnable } from '@netmem/virtual-nic'
import { tcpSk } from './tcp-sock.js'
import { tcpReleaseCb } from './tcp-tsq.js'

export { lockSock } from '@netmem/sockmem'

/**
 * Models `release_sock` (net/core/sock.c) for TCP. The deferred work runs with bottom halves off and the socket still
 * owned: what it sends over a loopback comes back only once everybody may have the socket again.
 */
export function tcpReleaseSock(cpu: Cpu, sk: Sock): void {
  if (sk.owned !== 1) {
    sk.owned -= 1
    return
  }
  if (sk.backlogTail !== 0) releaseBacklog(cpu, sk)
  if (tcpSk(sk).tsqFlags === 0) {
    sk.owned = 0
    return
  }
  localBhDisable(cpu)
  tcpReleaseCb(cpu, sk)
  sk.owned = 0
  localBhEnable(tcpSk(sk).env.ip.inet.devs, cpu)
}
