import { application } from '../../tsup.base.js'

// A capture of a gigabyte is millions of packets: the one command whose speed is felt.
export default application({ apart: { 'src/commands/replay.ts': ['replayCommand'] } })
