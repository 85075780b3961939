/** Counters of the slow paths, as `/proc/vmstat` names them. What the fast paths count is kept per zone. */
export class VmEvents {
  /** Allocations that entered direct reclaim, by the zone they preferred. */
  readonly allocstall = new Float64Array(3)
  /** Times kswapd was woken. */
  pageoutrun = 0
  compactStall = 0
  compactFail = 0
  oomKill = 0
  dropSlab = 0
  /** Allocations that ended with NULL, warned about or not (ours). */
  pageAllocFailed = 0
  /** Lines of "page allocation failure" printed so far; the kernel stops after ten in five seconds. */
  warned = 0
}
