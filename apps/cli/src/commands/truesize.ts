/** `netmem truesize`: what one message costs, with the sum. */
import { pathOf } from '../answers/message-path.js'
import { truesizeOf } from '../answers/truesize.js'
import { InputError } from '../errors.js'
import { writeJson, writeText } from '../output.js'
import { kernelOf, whole } from '../quantities.js'
import { truesizeText } from '../report/answers-text.js'

/** @throws InputError */
export function truesizeCommand(length: string, options: Record<string, unknown>): void {
  const facts = pathOf(String(options.path))
  const bytes = whole('the payload', length, 0, 1 << 20)
  if (bytes > facts.most)
    throw new InputError(`the payload ${bytes}: a message on this path holds at most ${facts.most} bytes`)
  const answer = truesizeOf(String(options.path), facts, kernelOf(String(options.kernel)), bytes)
  if (options.json) writeJson(answer)
  else writeText(truesizeText(answer))
}
