/** What the program behind a trace has of AF_XDP: sockets with their rings, areas of memory, maps. */
import { type UserBuffer, userFree } from '@netmem/memory'
import { bpfRedirectMap, XDP_DROP, XDP_PASS, type XdpProgram } from '@netmem/virtual-nic'
import type { XskMap, XskRing, XskRingKind } from '@netmem/zerocopy'
import type { Mapping } from '../mmap.js'
import { StepError } from './answer.js'
import type { PlayerWorld } from './world.js'

/** One socket as the trace's program has it. */
export class XskUser {
  readonly sizes = new Map<XskRingKind, number>()
  readonly mappings: Mapping[] = []
  readonly rings = new Map<XskRingKind, XskRing>()
  area: UserBuffer | null = null
  areaBytes = 0

  constructor(readonly fd: number) {}

  ring(kind: XskRingKind): XskRing {
    const ring = this.rings.get(kind)
    if (ring === undefined) throw new StepError(`the ${kind} ring is not mapped`)
    return ring
  }
}

export class XskUsers {
  readonly sockets = new Map<string, XskUser>()
  readonly maps = new Map<string, XskMap>()
  readonly areas: UserBuffer[] = []
}

const FAMILY = 'af-xdp'

export function xskUsersOf(world: PlayerWorld): XskUsers {
  const known = world.extra.get(FAMILY) as XskUsers | undefined
  if (known !== undefined) return known
  const made = new XskUsers()
  world.extra.set(FAMILY, made)
  return made
}

export function xskUserOf(world: PlayerWorld, id: unknown): XskUser {
  const found = xskUsersOf(world).sockets.get(id as string)
  if (found === undefined) throw new StepError(`"${id}" is no AF_XDP socket`)
  return found
}

export function xskMapOf(world: PlayerWorld, id: unknown): XskMap {
  const found = xskUsersOf(world).maps.get(id as string)
  if (found === undefined) throw new StepError(`"${id}" is no XSKMAP`)
  return found
}

/** Gives back the areas that a trace's sockets lived in. Call when the sockets are closed. */
export function freeXskAreas(world: PlayerWorld): void {
  const users = world.extra.get(FAMILY) as XskUsers | undefined
  for (const area of users?.areas.splice(0) ?? []) userFree(world.kernel.mem, world.process.cpu, area)
}

/** A program that redirects to the socket under its queue's key. @param fallback the verdict without one. */
export function redirectProgram(world: PlayerWorld, action: string, map: unknown, frags: boolean): XdpProgram {
  const slots = xskMapOf(world, map)
  const fallback = action === 'redirect_drop' ? XDP_DROP : XDP_PASS
  return { name: action, hasFrags: frags, run: (xdp) => bpfRedirectMap(xdp, slots, xdp.rxQueueIndex, fallback) }
}
