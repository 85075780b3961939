/**
 * Grace periods. A socket that others may still look up is not freed by the last user but later; to
 * anyone who measures, its memory goes silently. Here a grace period is an event in virtual time.
 */
import type { EventQueue } from '@netmem/base'
import type { Sock } from './sock.js'

/** How long a grace period takes here: a couple of ticks, as on an idle two-CPU machine. In nanoseconds. */
export const GRACE_PERIOD_NS = 8_000_000

/** A callback that waits for a grace period: the code and the socket it is about. */
export type RcuCallback = (sk: Sock) => void

/** Models `call_rcu` for sockets. */
export class Rcu {
  /** Greater than 0 while callbacks run; recordings leave out what they free. */
  running = 0
  private readonly handler: number
  private funcs: RcuCallback[] = []
  private socks: Sock[] = []
  private armed = false

  constructor(private readonly clock: EventQueue) {
    this.handler = clock.register(() => this.runAll())
  }

  get pending(): number {
    return this.socks.length
  }

  /** Models `call_rcu`: runs `func(sk)` once everybody who may look at `sk` is done. */
  call(func: RcuCallback, sk: Sock): void {
    this.funcs.push(func)
    this.socks.push(sk)
    if (this.armed) return
    this.armed = true
    this.clock.schedule((this.clock.nowNs + GRACE_PERIOD_NS) as typeof this.clock.nowNs, this.handler)
  }

  /** Models `rcu_barrier`: runs everything that waits, now. */
  barrier(): void {
    while (this.socks.length !== 0) this.runAll()
  }

  private runAll(): void {
    const { funcs, socks } = this
    this.funcs = []
    this.socks = []
    this.armed = false
    this.running += 1
    for (let i = 0; i < socks.length; i += 1) funcs[i](socks[i])
    this.running -= 1
  }
}
