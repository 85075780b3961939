/**
 * A stream over loopback: 64 KiB written by one end and read by the other, all bytes copied on the way in and on the
 * way out. `run(n)` does so `n` times and returns a checksum of its work.
 */
import { kernelProfile } from '@netmem/base'
import { AF_INET, SOCK_STREAM, SockAddr } from '@netmem/sockmem'
import {
  bootKernel,
  type Process,
  SOCK_NONBLOCK,
  sysAccept,
  sysBind,
  sysConnect,
  sysListen,
  sysRecvmsg,
  sysSendmsg,
  sysSocket,
} from '../src/index.js'

/** One case. `setup` comes before the first `run`; `run` may be called again and again. */
export interface BenchCase {
  readonly unit: string
  setup(): void
  run(n: number): number
}

const PORT = 5008

function stream(bytes: number): BenchCase {
  let process: Process
  let writer = 0
  let reader = 0
  return {
    unit: 'ns/write',
    setup: () => {
      const kernel = bootKernel({
        profile: kernelProfile('linux-6.18-x86_64'),
        cpus: 1,
        memoryBytes: 64 << 20,
        syscallNs: 1000,
      })
      process = kernel.spawn()
      const address = new SockAddr()
      address.family = AF_INET
      address.addr = 0x7f000001
      address.port = PORT
      const listener = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
      sysBind(process, listener, address)
      sysListen(process, listener, 8)
      writer = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
      sysConnect(process, writer, address)
      reader = sysAccept(process, listener, SOCK_NONBLOCK)
    },
    run(n) {
      let moved = 0
      for (let i = 0; i < n; i++) {
        sysSendmsg(process, writer, bytes)
        for (let ret = sysRecvmsg(process, reader, bytes); ret > 0; ret = sysRecvmsg(process, reader, bytes))
          moved += ret
      }
      return moved
    },
  }
}

export const cases: Record<string, BenchCase> = { 'tcp.loopback.64K': stream(65536) }
