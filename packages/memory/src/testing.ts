/** Audits that prove the conservation laws of memory, and fixtures that tests of upper packages share. */
export { auditMemory } from './audit.js'
export { auditSlab } from './audit-slab.js'
export type { TestMachine } from './test-machine.js'
export { assertNoLeaks, testMachine } from './test-machine.js'
