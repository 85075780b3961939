/**
 * What went wrong, in the only three ways a command ends: done (0), the answer is "no" (1), bad input (2).
 * Bad input is always one line that says what, where, and what would be right; it never shows a stack.
 */

export const EXIT_DONE = 0
export const EXIT_NO = 1
export const EXIT_BAD_INPUT = 2

/** Bad input. The message is the whole line: what is wrong, where, and what would be right. */
export class InputError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'InputError'
  }

  /** By name: a command that is bundled apart has a class of its own. */
  static override [Symbol.hasInstance](error: unknown): boolean {
    return error instanceof Error && error.name === 'InputError'
  }
}

/** One line from any thrown value: control characters and line breaks of a hostile name cannot split it. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim()
}

/** The system's reason why a file could not be used, in words; Node's own message repeats the call and the path. */
export function fileProblem(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | null)?.code
  const words: Record<string, string> = {
    ENOENT: 'no such file',
    EACCES: 'permission denied',
    EPERM: 'operation not permitted',
    EISDIR: 'is a directory, expected a file',
    ENOTDIR: 'a part of the path is not a directory',
    ELOOP: 'too many symbolic links',
    ENAMETOOLONG: 'file name too long',
    EMFILE: 'too many open files',
    EIO: 'the disk reports an error',
  }
  if (code !== undefined) return words[code] ?? code
  return error instanceof Error ? oneLine(error.message) : String(error)
}
