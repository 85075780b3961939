/**
 * Connections in the making: a listener remembers each SYN in a small slab object until the handshake is over,
 * then as a child that waits to be accepted.
 */
import { type Addr, type Cpu, type Gfp, NULL } from '@netmem/base'
import { kmemCacheAlloc, kmemCacheFree } from '@netmem/memory'
import { AF_INET6, type Sock, sockHold, sockPut } from '@netmem/sockmem'
import { ipv6AddrEqual } from '../ip6/ipv6-header.js'
import { FlowKey } from './inet-hashtables.js'
import type { TcpEnv } from './tcp-env.js'
import { tcpSk } from './tcp-sock.js'

/** Models `struct tcp_request_sock`. */
export class RequestSock {
  refcnt = 1
  /** The child, once there is one. */
  sk: Sock | null = null
  next: RequestSock | null = null
  readonly key = new FlowKey()
  rcvIsn = 0
  sntIsn = 0
  rcvNxt = 0
  sntSynackUs = 0
  mss = 536
  tsRecent = 0
  tsOff = 0
  rcvWnd = 0
  windowClamp = 0
  rcvWscale = 0
  sndWscale = 0
  wscaleOk = 0
  sackOk = 0
  tstampOk = 0
  lastOowAckTime = 0
  numRetrans = 0
  numTimeout = 0
  acked = false
  timerEvent = 0
  hashed = false

  constructor(
    readonly env: TcpEnv,
    readonly id: number,
    readonly addr: Addr,
    readonly listener: Sock,
  ) {}

  matches(key: FlowKey): boolean {
    const k = this.key
    if (k.lport !== key.lport || k.rport !== key.rport || k.netId !== key.netId || k.family !== key.family) return false
    return k.family === AF_INET6
      ? ipv6AddrEqual(k.laddr6, key.laddr6) && ipv6AddrEqual(k.raddr6, key.raddr6)
      : k.laddr === key.laddr && k.raddr === key.raddr
  }
}

/** Models `struct request_sock_queue`: how many are young, and who waits for accept. */
export class RequestSockQueue {
  /** Requests whose handshake is not over. */
  qlen = 0
  young = 0
  head: RequestSock | null = null
  tail: RequestSock | null = null
}

/** Models `inet_reqsk_alloc` (net/ipv4/tcp_input.c). @returns null without memory. */
export function inetReqskAlloc(cpu: Cpu, listener: Sock): RequestSock | null {
  const { env } = tcpSk(listener)
  const cache = listener.family === AF_INET6 ? env.requestCache6 : env.requestCache
  const { GFP_ATOMIC, NOWARN } = env.mem.gfp
  const addr = kmemCacheAlloc(cache, cpu, (GFP_ATOMIC | NOWARN) as Gfp, 'inet_reqsk_alloc')
  if (addr === NULL) return null
  sockHold(listener)
  const id = env.freeRequestIds.pop() ?? env.requests.length
  const req = new RequestSock(env, id, addr, listener)
  env.requests[id] = req
  return req
}

/** Models `reqsk_free`. @param site the function it is inlined into. */
export function reqskFree(cpu: Cpu, req: RequestSock, site: string): void {
  const { env } = req
  const cache = req.listener.family === AF_INET6 ? env.requestCache6 : env.requestCache
  if (req.timerEvent !== 0) env.clock.cancel(req.timerEvent)
  env.requests[req.id] = null
  env.freeRequestIds.push(req.id)
  kmemCacheFree(cache, cpu, req.addr, site)
  sockPut(cpu, req.listener)
}

/** Models `reqsk_put`. */
export function reqskPut(cpu: Cpu, req: RequestSock, site: string): void {
  if (--req.refcnt === 0) reqskFree(cpu, req, site)
}

/** Models `inet_csk_reqsk_queue_hash_add`: the SYN's answer is on its way, a timer waits for the third packet. */
export function inetCskReqskQueueHashAdd(req: RequestSock, timeout: number): void {
  const { env } = req
  const queue = tcpSk(req.listener).acceptQueue!
  req.hashed = true
  req.refcnt += 2
  env.hashinfo.addRequest(req)
  const tick = Math.floor(env.clock.nowNs / env.jiffyNs) + timeout + 1
  req.timerEvent = env.clock.schedule(tick * env.jiffyNs, env.requestTimerHandler, req.id)
  queue.qlen += 1
  queue.young += 1
}

/** Models `inet_csk_reqsk_queue_drop`: the request leaves the table and the timer; both references go. */
export function inetCskReqskQueueDrop(cpu: Cpu, req: RequestSock, site: string): boolean {
  if (!reqskUnlink(req)) return false
  reqskPut(cpu, req, site)
  reqskPut(cpu, req, site)
  return true
}

/** Takes it out of the table and stops its timer. */
export function reqskUnlink(req: RequestSock): boolean {
  if (!req.hashed) return false
  const { env } = req
  req.hashed = false
  env.hashinfo.removeRequest(req)
  if (req.timerEvent !== 0) {
    env.clock.cancel(req.timerEvent)
    req.timerEvent = 0
  }
  const queue = tcpSk(req.listener).acceptQueue
  if (queue !== null) {
    queue.qlen -= 1
    if (req.numTimeout === 0) queue.young -= 1
  }
  return true
}

/** Models `sk_acceptq_is_full`. */
export const skAcceptqIsFull = (sk: Sock): boolean => sk.ackBacklog > sk.maxAckBacklog

/** Models `inet_csk_reqsk_queue_is_full`. */
export const inetCskReqskQueueIsFull = (sk: Sock): boolean => tcpSk(sk).acceptQueue!.qlen > sk.maxAckBacklog

/** Models `inet_csk_reqsk_queue_add`: the child may be accepted. */
export function inetCskReqskQueueAdd(listener: Sock, req: RequestSock, child: Sock): void {
  const queue = tcpSk(listener).acceptQueue!
  req.sk = child
  req.next = null
  if (queue.tail === null) queue.head = req
  else queue.tail.next = req
  queue.tail = req
  listener.ackBacklog += 1
}

/** Models `reqsk_queue_remove`. */
export function reqskQueueRemove(listener: Sock): RequestSock | null {
  const queue = tcpSk(listener).acceptQueue!
  const req = queue.head
  if (req === null) return null
  queue.head = req.next
  if (queue.head === null) queue.tail = null
  listener.ackBacklog -= 1
  return req
}
