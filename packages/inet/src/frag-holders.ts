/** Datagrams that wait for their rest, as holders of pages: for the owner report of page pools. */
import { pagePoolRegisterHolders } from '@netmem/page-pool'
import { skbListHolders } from '@netmem/skbuff'
import type { InetEnv } from './inet-env.js'

export function fragRegisterHolders(env: InetEnv): void {
  const { pagePools } = env.skbs
  if (pagePools === null) return
  pagePoolRegisterHolders(pagePools, (visit) => {
    for (const frags of [env.frags, env.frags6])
      for (const head of frags.table)
        for (let next = head; next !== 0; ) {
          const queue = frags.bodies[next - 1]
          skbListHolders(env.skbs, queue.first, `fragments of datagram ${queue.id}`, visit)
          next = queue.hashNext
        }
  })
}
