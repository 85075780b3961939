import { application } from '../../tsup.base.js'

const bench = (name: string): string => `../../packages/${name}.bench.ts`

// The cases of a few nanoseconds, where calls between modules are a good part of what is measured, and the receive path.
export default application({
  fromSource: true,
  apart: {
    [bench('base/bench/event-queue')]: ['cases', 'holdModel'],
    [bench('memory/bench/memory')]: ['cases'],
    [bench('page-pool/bench/recycle')]: ['cases'],
    [bench('page-pool/bench/desc-ring')]: ['cases'],
    [bench('skbuff/bench/skb')]: ['cases'],
    [bench('inet/bench/receive')]: ['cases'],
  },
})
