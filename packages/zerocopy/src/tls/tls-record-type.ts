/**
 * Record types travel beside the bytes: in control messages of level SOL_TLS, one byte each.
 */
import { type Cpu, ERRNO } from '@netmem/base'
import { MSG_CTRUNC, MSG_MORE, type Msg, putCmsg, type Task } from '@netmem/sockmem'
import type { TlsContext } from './tls-context.js'
import { TLS_RECORD_TYPE_DATA } from './tls-framing.js'

export const SOL_TLS = 282
export const TLS_SET_RECORD_TYPE = 1
export const TLS_GET_RECORD_TYPE = 2

/**
 * Models `tls_process_cmsg` (net/tls/tls_main.c): what is open, of type data, goes first.
 *
 * @returns the type, or a negative errno; -EINVAL also when no message is about TLS.
 */
export function tlsProcessCmsg(cpu: Cpu, task: Task, ctx: TlsContext, msg: Msg): number {
  let type = -ERRNO.EINVAL
  for (const cmsg of msg.control ?? []) {
    if (cmsg.level !== SOL_TLS) continue
    if (cmsg.type !== TLS_SET_RECORD_TYPE) return -ERRNO.EINVAL
    if (cmsg.data !== undefined && cmsg.data.length === 0) return -ERRNO.EINVAL
    if ((msg.flags & MSG_MORE) !== 0) return -ERRNO.EINVAL
    if (ctx.pendingOpenRecordFrags && ctx.pushPendingRecord !== null) {
      const rc = ctx.pushPendingRecord(cpu, task, ctx, msg.flags)
      if (rc !== 0) return rc
    }
    type = (cmsg.data === undefined ? cmsg.value : cmsg.data[0]!) & 0xff
  }
  return type
}

/**
 * Models `tls_record_content_type`: one receive gives records of one type only, and says which.
 *
 * @param control the type so far, 0 when none was met. @returns the type now; 0 when the record is of another
 *   type and has to wait; -EIO when the caller has no room to be told, -EBADMSG for type 0.
 */
export function tlsRecordContentType(msg: Msg | null, recordType: number, control: number): number {
  if (control !== 0) return control === recordType ? control : 0
  if (recordType === 0) return -ERRNO.EBADMSG
  if (msg === null) return recordType
  if (msg.wantControl) putCmsg(msg, SOL_TLS, TLS_GET_RECORD_TYPE, recordType)
  else {
    msg.msgFlags |= MSG_CTRUNC
    if (recordType !== TLS_RECORD_TYPE_DATA) return -ERRNO.EIO
  }
  return recordType
}
