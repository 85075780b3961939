export { auditVfs } from './file/audit.js'
export { assertMsgZerocopyQuiescent, auditMsgZerocopy } from './msg-zerocopy/audit.js'
export { auditTls, auditTlsSock } from './tls/tls-audit.js'
