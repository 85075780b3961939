/** Colour where a person looks: a terminal, unless NO_COLOR asks for none. A CI log is not a terminal. */
import picocolors from 'picocolors'

const { NO_COLOR, FORCE_COLOR, TERM } = process.env
const asked = FORCE_COLOR ? FORCE_COLOR !== '0' : process.stdout.isTTY === true && TERM !== 'dumb'

export const colorsWanted = asked && !NO_COLOR
export const colors = picocolors.createColors(colorsWanted)
