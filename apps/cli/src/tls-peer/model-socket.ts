/** The model's side: a TCP connection whose one end has kTLS, and whose other end is the wire. Test code. */
import crypto from 'node:crypto'
import { kernelProfile } from '@netmem/base'
import {
  bootKernel,
  type Kernel,
  type Process,
  sysAccept,
  sysBind,
  sysClose,
  sysConnect,
  sysGetname,
  sysListen,
  sysRecvmsg,
  sysSendmsg,
  sysSetsockopt,
  sysSocket,
  tlsCryptoFromNode,
} from '@netmem/kernel-model'
import { auditKernel } from '@netmem/kernel-model/testing'
import { userRead, userWrite } from '@netmem/memory'
import { AF_INET, SOCK_STREAM, SockAddr } from '@netmem/sockmem'
import { SOL_TLS, TLS_RX, TLS_SET_RECORD_TYPE, TLS_TX } from '@netmem/zerocopy'

const SOCK_NONBLOCK = 0o4000
const SOL_TCP = 6
const TCP_NODELAY = 1
const TCP_ULP = 31
const ROOM = 1 << 17

/** What a receive gave: bytes, their type, or a negative errno. */
export interface Received {
  readonly ret: number
  readonly type: number
  readonly data: Buffer
}

export class ModelTlsSocket {
  readonly kernel: Kernel
  private readonly process: Process
  private readonly fd: number
  private readonly wireFd: number

  constructor(profile: string) {
    this.kernel = bootKernel({
      profile: kernelProfile(profile),
      cpus: 1,
      memoryBytes: 64 << 20,
      crypto: tlsCryptoFromNode(crypto),
    })
    const { kernel } = this
    const process = kernel.spawn()
    this.process = process
    const any = new SockAddr()
    any.family = AF_INET
    any.addr = 0x7f000001
    const listener = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    sysBind(process, listener, any)
    sysListen(process, listener, 1)
    sysGetname(process, listener, false, any)
    this.fd = sysSocket(process, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    sysConnect(process, this.fd, any)
    this.wireFd = sysAccept(process, listener, SOCK_NONBLOCK)
    sysClose(process, listener)
    for (const fd of [this.fd, this.wireFd]) this.setOption(fd, SOL_TCP, TCP_NODELAY, Buffer.from([1, 0, 0, 0]))
    process.val.text = 'tls'
    process.val.len = 3
    this.mustBe(sysSetsockopt(process, this.fd, SOL_TCP, TCP_ULP, process.val), 0)
  }

  private mustBe(ret: number, wanted: number): void {
    if (ret !== wanted) throw new Error(`a call returned ${ret}, not ${wanted}`)
  }

  private setOption(fd: number, level: number, opt: number, value: Buffer): number {
    const { val } = this.process
    val.words.fill(0)
    new Uint8Array(val.words.buffer).set(value)
    val.int = val.words[0]!
    val.len = value.length
    return sysSetsockopt(this.process, fd, level, opt, val)
  }

  setKey(direction: 'tx' | 'rx', info: Buffer): number {
    return this.setOption(this.fd, SOL_TLS, direction === 'tx' ? TLS_TX : TLS_RX, info)
  }

  /** Sends over kTLS. @returns what the call returned. */
  send(data: Uint8Array, type?: number, flags = 0): number {
    userWrite(this.kernel.mem, this.process.buffer('send', Math.max(data.length, 1)), 0, data)
    const control = type === undefined ? {} : { control: [{ level: SOL_TLS, type: TLS_SET_RECORD_TYPE, value: type }] }
    const ret = sysSendmsg(this.process, this.fd, data.length, { flags, ...control })
    auditKernel(this.kernel)
    return ret
  }

  /** Receives over kTLS. */
  receive(room = ROOM): Received {
    const ret = sysRecvmsg(this.process, this.fd, room, { wantControl: true })
    const type = this.process.msg.control?.[0]?.value ?? 0
    auditKernel(this.kernel)
    return {
      ret,
      type,
      data: Buffer.from(userRead(this.kernel.mem, this.process.buffer('recv', room), 0, Math.max(ret, 0))),
    }
  }

  /** All ciphertext that left the model. */
  fromModel(): Buffer {
    const chunks: Buffer[] = []
    for (;;) {
      const got = sysRecvmsg(this.process, this.wireFd, ROOM)
      if (got <= 0) return Buffer.concat(chunks)
      chunks.push(Buffer.from(userRead(this.kernel.mem, this.process.buffer('recv', ROOM), 0, got)))
    }
  }

  /** Ciphertext for the model. */
  toModel(data: Uint8Array): void {
    userWrite(this.kernel.mem, this.process.buffer('send', Math.max(data.length, 1)), 0, data)
    this.mustBe(sysSendmsg(this.process, this.wireFd, data.length), data.length)
  }

  close(): void {
    sysClose(this.process, this.fd)
    sysClose(this.process, this.wireFd)
    this.kernel.exit(this.process)
    auditKernel(this.kernel)
  }
}
