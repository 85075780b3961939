/**
 * What must hold. `assert` states the model in O(1); `if (__ASSERT__) assert(...)` guards dearer checks,
 * and the production build removes those whole.
 */

declare global {
  /** True in the default build, false in the `production` one: a build-time constant. */
  const __ASSERT__: boolean
}

/** Models what the kernel does at `BUG()` or an oops: the model cannot go on. The message starts with the kernel's words. */
export class KernelBug extends Error {
  override readonly name = 'KernelBug'
}

/** @throws KernelBug with these plain words when the condition is false. */
export function assert(condition: boolean, words: string): asserts condition {
  if (!condition) throw new KernelBug(words)
}

/** Models `BUG()`: never returns. */
export function bug(words: string): never {
  throw new KernelBug(words)
}
