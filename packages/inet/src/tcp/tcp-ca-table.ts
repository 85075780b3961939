/** Congestion control by name. */
import { tcpBbr } from './tcp-bbr.js'
import { type TcpCongestionOps, tcpReno } from './tcp-cong.js'
import { tcpCubic } from './tcp-cubic.js'

const TABLE: readonly TcpCongestionOps[] = [tcpBbr, tcpCubic, tcpReno]

/** Models `tcp_ca_find`. */
export const tcpCaFind = (name: string): TcpCongestionOps | null => TABLE.find((ops) => ops.name === name) ?? null

/** Models `tcp_assign_congestion_control`: the namespace's default, or Reno when that is not built in. */
export const tcpCaDefault = (name: string): TcpCongestionOps => tcpCaFind(name) ?? tcpReno
