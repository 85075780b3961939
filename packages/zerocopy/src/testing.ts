export { auditTls, auditTlsSock } from './tls/tls-audit.js'
