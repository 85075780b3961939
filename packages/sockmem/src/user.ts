/** Users of a machine, with what is counted for all processes of one: pages pinned in memory. */
import type { SockEnv } from './sock-env.js'
import type { Task } from './task.js'

/** Models `struct user_struct`. */
export class UserStruct {
  /** Pages that zero-copy sends and the like keep pinned for this user (`locked_vm`). */
  lockedVm = 0

  constructor(
    readonly uid: number,
    /** Its place in `SockEnv.users`. */
    readonly index: number,
  ) {}
}

/** Models `current_user`: whose limits a task's pinned pages count against. */
export function currentUser(env: SockEnv, task: Task): UserStruct {
  for (const user of env.users) if (user.uid === task.uid) return user
  const user = new UserStruct(task.uid, env.users.length)
  env.users.push(user)
  return user
}
