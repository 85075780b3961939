/**
 * Which function plays which verb. One table per dialect; a verb that a dialect lacks is looked up in the
 * others, so that a scenario may mix them.
 */
import type { JsonObject } from '../trace/json.js'
import type { Dialect } from '../trace/verbs.js'
import { allocHandlers } from './alloc-verbs.js'
import type { Answer } from './answer.js'
import { counterHandlers } from './counter-verbs.js'
import { dataHandlers } from './data-verbs.js'
import { deviceHandlers } from './device-verbs.js'
import { fileHandlers } from './file-verbs.js'
import { ktlsHandlers } from './ktls-verbs.js'
import { memcgHandlers } from './memcg-verbs.js'
import { nicHandlers } from './nic-verbs.js'
import { optionHandlers } from './option-verbs.js'
import { packetHandlers } from './packet-verbs.js'
import { ringSocketHandlers } from './ring-socket-verbs.js'
import { socketHandlers } from './socket-verbs.js'
import { spliceHandlers } from './splice-verbs.js'
import { tapHandlers } from './tap-verbs.js'
import { truesizeHandlers } from './truesize-table.js'
import type { PlayerWorld } from './world.js'
import { xdpHandlers } from './xdp-verbs.js'

/** Performs one step. @param args the step without `do` and `expect`, already checked against the verb's arguments. */
export type VerbHandler = (world: PlayerWorld, args: JsonObject) => Answer

export type VerbHandlers = Readonly<Record<string, VerbHandler>>

const sockets: VerbHandlers = {
  ...counterHandlers,
  ...socketHandlers,
  ...optionHandlers,
  ...dataHandlers,
  ...fileHandlers,
  ...spliceHandlers,
  ...truesizeHandlers,
  ...memcgHandlers,
  ...ktlsHandlers,
}
const rings: VerbHandlers = {
  ...deviceHandlers,
  ...nicHandlers,
  ...tapHandlers,
  ...ringSocketHandlers,
  ...packetHandlers,
  ...xdpHandlers,
}

const order: Readonly<Record<Dialect, readonly VerbHandlers[]>> = {
  sockets: [sockets, rings, allocHandlers],
  rings: [rings, sockets, allocHandlers],
  alloc: [allocHandlers, sockets, rings],
}

/** @returns the handler of a verb, `undefined` when the model cannot play it. */
export function verbHandler(dialect: Dialect, verb: string): VerbHandler | undefined {
  for (const table of order[dialect]) if (Object.hasOwn(table, verb)) return table[verb]
  return undefined
}
