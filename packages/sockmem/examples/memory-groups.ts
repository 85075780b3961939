import { PageCounter, pageCounterTryCharge, pageCounterUncharge } from '@netmem/sockmem'

// A pod with a limit of 100 pages, and two containers in it: who is refused, and by whose limit?
const pod = new PageCounter(null, true)
const web = new PageCounter(pod, true)
const cache = new PageCounter(pod, true)
pod.max = 100
web.max = 80

if (pageCounterTryCharge(cache, 60) !== null) throw new Error('60 of 100 pages were refused')
// 50 pages fit the container's own limit; it is the pod that is full, and nothing is charged anywhere.
if (pageCounterTryCharge(web, 50) !== pod) throw new Error('the pod did not refuse')
if (web.usage !== 0 || pod.usage !== 60 || pod.failcnt !== 1) throw new Error('a refused charge left something behind')

pageCounterUncharge(cache, 60)
if (pageCounterTryCharge(web, 80) !== null || pod.watermark !== 80) throw new Error('80 pages should fit now')
