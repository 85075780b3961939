import { Prng } from '@netmem/base'
import { expect, it } from 'vitest'
import {
  allocSkb,
  consumeSkb,
  type SkBuff,
  SkbQueue,
  skbAppend,
  skbDequeue,
  skbDequeueTail,
  skbPeek,
  skbPeekNext,
  skbPeekTail,
  skbQueueAfter,
  skbQueueBefore,
  skbQueueHead,
  skbQueueIsFirst,
  skbQueueIsLast,
  skbQueueLen,
  skbQueuePurge,
  skbQueueSpliceInit,
  skbQueueSpliceTailInit,
  skbQueueTail,
  skbUnlink,
} from './index.js'
import { skbTestMachine } from './testing.js'

it('behaves as a plain list does, over random operations', () => {
  const machine = skbTestMachine()
  const { env, cpu, mem } = machine
  for (const seed of [11, 12, 13]) {
    const rng = new Prng(seed)
    const queues = [new SkbQueue(env), new SkbQueue(env)]
    const models: SkBuff[][] = [[], []]
    for (let step = 0; step < 1500; step++) {
      const which = rng.below(2)
      const queue = queues[which]!
      const model = models[which]!
      const at = model.length > 0 ? rng.below(model.length) : -1
      const fresh = () => allocSkb(env, cpu, 1, mem.gfp.GFP_ATOMIC)!
      switch (rng.below(11)) {
        case 0:
        case 1:
          model.push(fresh())
          skbQueueTail(queue, model.at(-1)!)
          break
        case 2:
          model.unshift(fresh())
          skbQueueHead(queue, model[0]!)
          break
        case 3:
          if (at >= 0) {
            const skb = fresh()
            ;(step % 2 === 0 ? skbQueueAfter : (q: SkbQueue, p: SkBuff, s: SkBuff) => skbAppend(p, s, q))(
              queue,
              model[at]!,
              skb,
            )
            model.splice(at + 1, 0, skb)
          }
          break
        case 4:
          if (at >= 0) {
            const skb = fresh()
            skbQueueBefore(queue, model[at]!, skb)
            model.splice(at, 0, skb)
          }
          break
        case 5:
          if (at >= 0) {
            skbUnlink(queue, model[at]!)
            consumeSkb(cpu, model.splice(at, 1)[0]!, 'x')
          }
          break
        case 6: {
          const skb = skbDequeue(queue)
          expect(skb).toBe(model.shift() ?? null)
          if (skb !== null) consumeSkb(cpu, skb, 'x')
          break
        }
        case 7: {
          const skb = skbDequeueTail(queue)
          expect(skb).toBe(model.pop() ?? null)
          if (skb !== null) consumeSkb(cpu, skb, 'x')
          break
        }
        case 8:
          skbQueueSpliceTailInit(queue, queues[1 - which]!)
          models[1 - which]!.push(...model.splice(0))
          break
        case 9:
          skbQueueSpliceInit(queue, queues[1 - which]!)
          models[1 - which]!.unshift(...model.splice(0))
          break
      }
      queues.forEach((q, i) => {
        const forward: SkBuff[] = []
        for (let skb = skbPeek(q); skb !== null; skb = skbPeekNext(q, skb)) forward.push(skb)
        expect(forward, `seed ${seed} step ${step}`).toEqual(models[i])
        const backward: SkBuff[] = []
        for (let id = q.last; id !== 0; id = env.skbs[id]!.prev) backward.unshift(env.skbs[id]!)
        expect(backward, `seed ${seed} step ${step}`).toEqual(models[i])
        expect(skbQueueLen(q)).toBe(models[i]!.length)
        expect(skbPeekTail(q)).toBe(models[i]!.at(-1) ?? null)
        const first = models[i]![0]
        if (first !== undefined)
          expect([skbQueueIsFirst(q, first), skbQueueIsLast(q, first)]).toEqual([true, models[i]!.length === 1])
      })
    }
    for (const queue of queues) skbQueuePurge(cpu, queue)
  }
  machine.finish()
})
