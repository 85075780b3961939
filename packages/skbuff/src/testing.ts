/** Audits that prove the conservation laws of skbs, and fixtures that tests of upper packages share. */
export { assertSkbsQuiescent, auditSkb, auditSkbs, heldSkbs, napiSkbCount } from './audit.js'
export type { SkbTestMachine } from './test-machine.js'
export { readSkb, skbTestMachine } from './test-machine.js'
