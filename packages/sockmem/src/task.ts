/**
 * Who makes a system call: the task, with what of it memory depends on. One per simulated process;
 * the kernel model keeps its descriptors beside it.
 */
import type { Cpu } from '@netmem/base'
import { PageFrag } from '@netmem/page-frag'
import { CAP_IPC_LOCK, CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_ADMIN } from './constants.js'
import type { MemCgroup } from './memcg.js'
import type { NetNs } from './net-ns.js'

/** Models the parts of `struct task_struct`, its credentials and its user that sockets look at. */
export class Task {
  /** Models `current->task_frag`: where sends over the task's own fragment put their bytes. */
  readonly taskFrag = new PageFrag()
  /** The group that sockets made by this task are charged to; null for the root group. */
  memcg: MemCgroup | null = null
  /** `CAP_*` bits. The default is root without CAP_SYS_RESOURCE. */
  caps = CAP_NET_ADMIN | CAP_NET_RAW | CAP_NET_BIND_SERVICE | CAP_SYS_ADMIN | CAP_IPC_LOCK
  /** Models `RLIMIT_MEMLOCK` in bytes. */
  rlimitMemlock = 8388608
  uid = 0
  /** Models `current->splice_pipe`: the private pipe of this task's sendfile calls; who owns pipes keeps it here. */
  splicePipe: object | null = null

  constructor(
    readonly pid: number,
    public cpu: Cpu,
    public net: NetNs,
  ) {}
}

/** Models `ns_capable`/`capable` for the few capabilities that sockets ask for. */
export const capable = (task: Task, cap: number): boolean => (task.caps & cap) !== 0
