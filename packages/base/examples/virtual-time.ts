import { EventQueue, kernelProfile, Trace, traceSubscribe } from '@netmem/base'

// A kernel is data: code asks the profile and never compares versions.
const profile = kernelProfile('linux-6.18-x86_64')
const tickNs = 1e9 / profile.HZ

// Time is a queue of events; equal times run in the order they were scheduled.
const clock = new EventQueue()
const trace = new Trace()
const log: string[] = []
traceSubscribe(trace, { printk: (words) => log.push(words) })

const timer = clock.register((seconds) => trace.printk?.(`stalled pool shutdown: id 1, 4032 inflight ${seconds} sec`))
clock.schedule(15 * tickNs, timer, 60)
clock.runUntil(1e9)

if (log.length !== 1 || clock.nowNs !== 1e9) throw new Error(`the timer ran ${log.length} times`)
