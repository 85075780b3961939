/** Sockets as holders of pages: what waits in their queues, for the owner report of page pools. */
import { type HolderWalk, pagePoolRegisterHolders } from '@netmem/page-pool'
import { skbListHolders } from '@netmem/skbuff'
import type { Sock } from './sock.js'
import type { SockEnv } from './sock-env.js'

/** How a report calls a socket: `UDP socket 5, port 7000`. */
export const sockName = (sk: Sock): string =>
  `${sk.proto.name} socket ${sk.id}${sk.num === 0 ? '' : `, port ${sk.num}`}`

const socketQueues =
  (env: SockEnv): HolderWalk =>
  (visit) => {
    for (const sk of env.socks) {
      if (sk === null || sk === undefined) continue
      const name = sockName(sk)
      const queue = (first: number, what: string): void => skbListHolders(env.skbs, first, `${name}: ${what}`, visit)
      queue(sk.receiveQueue.first, 'receive queue')
      queue(sk.errorQueue.first, 'error queue')
      queue(sk.writeQueue.first, 'write queue')
      queue(sk.backlogHead, 'backlog')
      sk.proto.ownQueues?.(sk, queue)
    }
  }

/** Names the sockets to the machine's page pools, if it has any. */
export function sockRegisterHolders(env: SockEnv): void {
  if (env.skbs.pagePools !== null) pagePoolRegisterHolders(env.skbs.pagePools, socketQueues(env))
}
