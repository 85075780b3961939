/**
 * Verbs of the allocation traces: one operation, measured between two switches of the recorder, with the
 * silent caches compared before and after.
 */
import { errnoName } from '@netmem/base'
import { napiSkbCacheResize } from '@netmem/skbuff'
import type { Json, JsonObject } from '../trace/json.js'
import { performOperation } from './alloc-operations.js'
import { summarise } from './alloc-recorder.js'
import type { Answer } from './answer.js'
import type { VerbHandler, VerbHandlers } from './handlers.js'
import { driveNapiFrag, pageFragState, type RecordedState, recordedState } from './silent-caches.js'
import type { PlayerWorld } from './world.js'

/** The caches that allocate and free without a tracepoint, as a trace writes them. */
interface SilentCaches {
  napi_skbs: number
  task_frag: Json
  napi_frag?: Json
  netdev_frag?: Json
}

/** What the player keeps for one allocation trace. */
interface AllocState {
  readonly recorded: RecordedState
  /** The recorder's preparations are over and the head cache is level. */
  level: boolean
}

const STATE = 'alloc'

function stateOf(world: PlayerWorld): AllocState {
  let state = world.extra.get(STATE) as AllocState | undefined
  if (state === undefined) {
    const recorded = recordedState(world.document.steps)
    state = { recorded, level: false }
    world.extra.set(STATE, state)
    if (recorded.napiFrag !== null) driveNapiFrag(world.kernel, world.process.cpu, recorded.napiFrag)
  }
  return state
}

function silentCaches(world: PlayerWorld): SilentCaches {
  const { kernel, process } = world
  const { cpu, task } = process
  const { taskFrag } = task
  const caches: SilentCaches = {
    napi_skbs: kernel.skbs.napi[cpu.id]!.skbCount,
    task_frag: taskFrag.page === 0 ? null : { offset: taskFrag.offset, size: taskFrag.size },
  }
  if (stateOf(world).recorded.napiFrag !== null) {
    caches.napi_frag = pageFragState(kernel.skbs.fragCaches.napi[cpu.id]!)
    caches.netdev_frag = pageFragState(kernel.skbs.fragCaches.netdev[cpu.id]!)
  }
  return caches
}

/** @returns the caches that differ, with their new values; null when none does. */
function changedCaches(before: SilentCaches, after: SilentCaches): { [name: string]: Json } | null {
  const changed: { [name: string]: Json } = {}
  for (const name of Object.keys(after) as (keyof SilentCaches)[])
    if (JSON.stringify(before[name]) !== JSON.stringify(after[name])) changed[name] = after[name] as Json
  return Object.keys(changed).length === 0 ? null : changed
}

/** The recorder levels the head cache when its preparations are over: before anything that it looks at. */
function levelOnce(world: PlayerWorld): void {
  const state = stateOf(world)
  if (state.level) return
  state.level = true
  napiSkbCacheResize(world.kernel.skbs, world.process.cpu, state.recorded.napiSkbs)
}

const measured =
  (report: (events: ReturnType<PlayerWorld['recorder']['stop']>, answer: Answer) => void): VerbHandler =>
  (world: PlayerWorld, args: JsonObject): Answer => {
    levelOnce(world)
    const before = silentCaches(world)
    world.recorder.start()
    const ret = performOperation(world, args.op as JsonObject)
    const events = world.recorder.stop()
    const answer: Answer = ret < 0 ? { errno: errnoName(ret) } : { ret }
    report(events, answer)
    const caches = changedCaches(before, silentCaches(world))
    if (caches !== null) answer.caches = caches
    return answer
  }

export const allocHandlers: VerbHandlers = {
  op: (world, args) => {
    stateOf(world)
    const ret = performOperation(world, args.op as JsonObject)
    return ret < 0 ? { errno: errnoName(ret) } : { ret }
  },

  alloc_trace: measured((events, answer) => {
    answer.events = events as unknown as Json
  }),

  alloc_summary: measured((events, answer) => {
    answer.summary = summarise(events)
  }),

  drop_trace: measured((events, answer) => {
    answer.drops = events
      .filter((event) => event.ev === 'kfree_skb')
      .map(({ reason, site, protocol }) => ({ reason: reason!, site: site!, protocol: protocol! }))
  }),

  cache_state: (world) => {
    levelOnce(world)
    return silentCaches(world) as unknown as Answer
  },

  cache_level: (world, args) => {
    napiSkbCacheResize(world.kernel.skbs, world.process.cpu, args.napi_skbs as number)
    return { ret: 0 }
  },

  sleep: (world, args) => {
    world.kernel.passTime((args.ms as number) * 1e6)
    return { ret: 0 }
  },
}
