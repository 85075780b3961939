/** Audits that prove the conservation laws of the Internet protocols, and fixtures that tests share. */
export { auditFrags, auditInet, auditTcp, auditTcpSock, auditUdp } from './audit.js'
export { TestInet, testInet } from './test-machine.js'
