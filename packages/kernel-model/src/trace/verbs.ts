/**
 * Every verb there is, by family of verbs, with the arguments it takes. Knowing a verb is not being able to
 * play it: the handlers are in ../player. A verb that is not here is unknown, which a trace report says.
 */
import * as is from './arguments.js'
import { type ArgumentKinds, optional } from './arguments.js'

type VerbTable = Readonly<Record<string, ArgumentKinds>>

const id = is.name
const maybe = optional
const data = { id, len: is.size, flags: maybe(is.flags), to: maybe(is.name) }

/** Verbs of the socket traces. */
export const socketVerbs: VerbTable = {
  sysctl: { name: is.name, value: is.text },
  sysctl_read: { name: is.name },
  protomem: { proto: is.oneOf('tcp', 'udp') },
  netstat: { counter: is.name },
  settle: { ms: is.size },
  link: { dev: maybe(is.name), mtu: is.integer },
  udp_socket: { id, v6: maybe(is.flag) },
  udp_connect: { id, to: is.name },
  tcp_pair: {
    client: id,
    server: id,
    client_sndbuf: maybe(is.integer),
    client_rcvbuf: maybe(is.integer),
    server_sndbuf: maybe(is.integer),
    server_rcvbuf: maybe(is.integer),
    nodelay: maybe(is.flag),
    v6: maybe(is.flag),
  },
  tcp_listener: {
    id,
    sndbuf: maybe(is.integer),
    rcvbuf: maybe(is.integer),
    backlog: maybe(is.integer),
    v6: maybe(is.flag),
  },
  tcp_connect: {
    id,
    to: is.name,
    sndbuf: maybe(is.integer),
    rcvbuf: maybe(is.integer),
    nodelay: maybe(is.flag),
    v6: maybe(is.flag),
  },
  tcp_accept: { listener: is.name, id },
  unix_pair: { a: id, b: id, type: is.oneOf('stream', 'dgram', 'seqpacket') },
  close: { id },
  reset: { id },
  shutdown: { id, how: is.oneOf('RD', 'WR', 'RDWR') },
  setsockopt: { id, opt: is.name, value: is.integer, optlen: maybe(is.size) },
  getsockopt: { id, opt: is.name },
  attach_filter: { id, insns: is.count },
  detach_filter: { id },
  send: data,
  recv: data,
  send_many: { ...data, count: is.count },
  recv_many: { ...data, count: is.count },
  send_until: { ...data, max: maybe(is.count) },
  recv_until: { ...data, max: maybe(is.count) },
  read: { id, len: is.size },
  write: { id, len: is.size },
  read_until: { id, len: is.size, max: maybe(is.count) },
  write_until: { id, len: is.size, max: maybe(is.count) },
  inq: { id },
  outq: { id },
  outqnsd: { id },
  poll: { id },
  errqueue: { id },
  errqueue_drain: { id },
  meminfo: { id },
  tcpinfo: { id, keys: is.names },
  truesize_table: { path: is.name, from: is.size, to: is.size, v6: maybe(is.flag), cork: maybe(is.size) },
  file: { id, size: is.size, mode: maybe(is.oneOf('r', 'w', 'rw', 'a')) },
  memfd: { id, size: is.size },
  devnull: { id, dev: maybe(is.name) },
  lseek: { id, offset: is.position, whence: maybe(is.integer) },
  filesize: { id },
  pipe: { id, size: maybe(is.integer) },
  fcntl: { id, cmd: is.name, arg: maybe(is.integer) },
  sendfile: { out: is.name, in: is.name, offset: maybe(is.position), count: is.position },
  splice: {
    from: is.name,
    to: is.name,
    len: is.position,
    off_in: maybe(is.position),
    off_out: maybe(is.position),
    flags: maybe(is.flags),
  },
  tee: { from: is.name, to: is.name, len: is.position, flags: maybe(is.flags) },
  vmsplice: { id, len: is.integer, page_offset: maybe(is.size), flags: maybe(is.flags) },
  memcg: { limit: is.integer },
  memcg_read: { file: is.name },
}

/** Verbs that only 6.1 gives: kTLS, cgroup v2, emulated NICs behind swiotlb or an IOMMU, live XDP frames. */
export const linux61Verbs: VerbTable = {
  ulp: { id, name: maybe(is.name) },
  ulp_get: { id, optlen: maybe(is.size) },
  tls_key: {
    id,
    dir: is.oneOf('TX', 'RX'),
    version: maybe(is.nameOrNumber),
    cipher: maybe(is.nameOrNumber),
    key: maybe(is.hex),
    salt: maybe(is.hex),
    iv: maybe(is.hex),
    seq: maybe(is.hex),
    optlen: maybe(is.size),
  },
  tls_key_get: { id, dir: is.oneOf('TX', 'RX'), optlen: maybe(is.size) },
  tls_opt: { id, opt: is.name, value: is.integer, optlen: maybe(is.size) },
  tls_opt_get: { id, opt: is.name },
  tls_send: {
    id,
    len: maybe(is.size),
    start: maybe(is.size),
    data: maybe(is.hex),
    flags: maybe(is.flags),
    type: maybe(is.integer),
    ctl: maybe({ want: '[control message type, hex]', optional: true, accepts: Array.isArray }),
  },
  tls_send_iov: { id, iov: is.sizes },
  tls_send_until: { id, len: is.size, max: maybe(is.count) },
  tls_recv: { id, len: maybe(is.size), flags: maybe(is.flags), cmsg: maybe(is.flag) },
  wire: { id, hex: maybe(is.switchValue), as: maybe(is.name) },
  wire_send: {
    id,
    hex: maybe(is.hex),
    from: maybe(is.name),
    xor: maybe(is.integerLists),
    begin: maybe(is.integer),
    end: maybe(is.integer),
  },
  tls_stat: {},
  pfile: { id, size: is.size },
  pwrite_pipe: { id, len: is.size },
  pread_pipe: { id, len: is.size },
  cg: { max: maybe(is.textOrInteger) },
  cg_enter: {},
  cg_leave: {},
  cg_set: { file: is.name, value: is.textOrInteger },
  cg_sock: {},
  cg_events: {},
  cg_current: {},
  nic_send: { len: is.size, count: is.count, gap_ms: maybe(is.size) },
  io_tlb: {},
  xdp_live: { prog: is.name, len: is.size, repeat: is.count, batch: maybe(is.size) },
}

/** Verbs of the device and ring traces. */
export const ringVerbs: VerbTable = {
  netns: { id },
  lo_up: { ns: maybe(is.name) },
  veth: {
    a: maybe(is.name),
    b: maybe(is.name),
    a_ns: maybe(is.name),
    b_ns: maybe(is.name),
    mtu: maybe(is.integer),
    addr: maybe(is.flag),
  },
  offload: { dev: is.name, feature: is.name, value: is.switchValue },
  mtu: { dev: is.name, mtu: is.integer },
  link: { dev: is.name, up: is.switchValue },
  dev_stats: { dev: is.name },
  snmp: { ns: maybe(is.name), keys: is.names },
  softnet: {},
  drops: {},
  sleep: { ms: is.size },
  inject: { dev: is.name, frame: is.frame, count: maybe(is.count) },
  tap: {
    id,
    dev: is.name,
    flags: is.names,
    mtu: maybe(is.integer),
    txqueuelen: maybe(is.size),
    vnet_hdr_sz: maybe(is.size),
    sndbuf: maybe(is.integer),
  },
  tap_write: { id, frame: is.frame, count: maybe(is.count), vnet: maybe(is.object), iov: maybe(is.sizes) },
  tap_write_short: { id, len: is.size },
  tap_read: { id, count: maybe(is.count), size: maybe(is.size) },
  tap_queue: { id, attach: is.switchValue },
  tap_close: { id },
  tap_rx_sweep: { id, rx: is.name, len_from: is.size, len_to: is.size, iov: maybe(is.sizes), vnet: maybe(is.object) },
  udp_socket: {
    id,
    ns: maybe(is.name),
    bind: maybe(is.address),
    connect: maybe(is.address),
    rcvbuf: maybe(is.integer),
    sndbuf: maybe(is.integer),
    opts: maybe(is.integerLists),
  },
  send: { id, len: is.size, count: maybe(is.count), gso: maybe(is.size) },
  recv: { id, count: maybe(is.count) },
  recv_all: { id },
  meminfo: { id },
  send_sweep: { id, rx: is.name, len_from: is.size, len_to: is.size },
  send_each: { id, rx: is.name, lens: is.sizes, drain: maybe(is.flag) },
  close: { id },
  xdp_attach: {
    dev: is.name,
    prog: is.name,
    mode: maybe(is.oneOf('generic', 'native')),
    frags: maybe(is.flag),
    map: maybe(is.name),
  },
  xdp_detach: { dev: is.name },
  page_pool_events: {},
  page_pools: { dev: is.name },
  packet_socket: {
    id,
    dev: maybe(is.name),
    type: maybe(is.oneOf('SOCK_RAW', 'SOCK_DGRAM')),
    proto: maybe(is.name),
    rcvbuf: maybe(is.integer),
  },
  packet_opt: { id, opt: is.name, value: is.nameOrNumber },
  packet_hdrlen: { id, version: is.nameOrNumber },
  packet_ring: {
    id,
    ring: is.oneOf('rx', 'tx'),
    block_size: is.size,
    block_nr: is.size,
    frame_size: is.size,
    frame_nr: is.size,
    retire_tov: maybe(is.size),
    sizeof_priv: maybe(is.size),
    feature: maybe(is.size),
  },
  packet_mmap: { id, len: is.size },
  packet_frame: { id, index: is.size, sll: maybe(is.flag) },
  packet_statuses: { id },
  packet_release: { id, index: is.size },
  packet_block: { id, index: is.size },
  packet_block_release: { id, index: is.size },
  packet_stats: { id },
  packet_filter: { id, snaplen: is.size },
  packet_recv: { id, size: maybe(is.size), trunc: maybe(is.flag) },
  packet_tx_put: { id, index: is.size, len: is.size },
  packet_tx_kick: { id },
  packet_tx_statuses: { id },
  xsk_socket: { id, ns: maybe(is.name) },
  xsk_umem: {
    id,
    len: is.size,
    chunk_size: is.size,
    headroom: maybe(is.size),
    flags: maybe(is.names),
    raw_flags: maybe(is.integer),
    addr_offset: maybe(is.integer),
    tx_metadata_len: maybe(is.size),
  },
  xsk_ring: { id, ring: is.oneOf('rx', 'tx', 'fill', 'comp'), size: is.integer },
  xsk_mmap_offsets: { id },
  xsk_mmap: { id, ring: is.oneOf('rx', 'tx', 'fill', 'comp'), len: maybe(is.size) },
  xsk_bind: { id, dev: is.name, queue: maybe(is.integer), flags: maybe(is.names), shared_with: maybe(is.name) },
  xskmap: { id, entries: maybe(is.count) },
  xskmap_set: { id, key: is.size, xsk: is.name },
  xsk_fill: { id, addrs: is.integers },
  xsk_rx: { id },
  xsk_umem_frame: { id, addr: is.size, frame: is.frame },
  xsk_tx: { id, descs: is.integerLists },
  xsk_kick: { id },
  xsk_comp: { id },
  xsk_indices: { id },
  xsk_stats: { id },
  xsk_meminfo: { id },
  xsk_close: { id },
}

/** Verbs of the allocation traces. `op` is one operation, itself a verb of `allocOperations`. */
export const allocVerbs: VerbTable = {
  op: { op: is.object },
  alloc_trace: { op: is.object },
  alloc_summary: { op: is.object },
  drop_trace: { op: is.object },
  cache_state: {},
  cache_level: { napi_skbs: is.size },
  sleep: { ms: is.size },
}

/** What `op` may be in an allocation trace. */
export const allocOperations: VerbTable = {
  udp_socket: { id, ns: maybe(is.name) },
  tcp_socket: { id, ns: maybe(is.name) },
  packet_socket: { id, type: is.oneOf('raw', 'dgram'), protocol: is.size },
  unix_pair: { ids: is.names, type: is.oneOf('stream', 'dgram') },
  bind: { id, port: maybe(is.size), addr: maybe(is.name), dev: maybe(is.name), protocol: maybe(is.size) },
  listen: { id, backlog: is.integer },
  connect: { id, port: is.size, addr: maybe(is.name) },
  accept: { id, as: is.name },
  setsockopt: { id, opt: is.name, value: is.valueOrList },
  shutdown: { id, how: is.oneOf('rd', 'wr', 'rdwr') },
  close: { id },
  send: { id, len: is.size, flags: maybe(is.names), port: maybe(is.size), addr: maybe(is.name), at: maybe(is.size) },
  recv: { id, len: is.size, flags: maybe(is.names) },
  recv_errqueue: { id },
  file: { id, len: is.size },
  pipe: { ids: is.names },
  sendfile: { id, file: is.name, offset: is.size, len: is.size },
  splice: { from: is.name, to: is.name, len: is.size, flags: maybe(is.names) },
  vmsplice: { to: is.name, len: is.size, at: maybe(is.size) },
  mtu: { dev: is.name, mtu: is.integer },
  sysctl: { name: is.name, value: is.textOrInteger },
  ethtool: { dev: is.name, feature: is.name, value: is.switchValue, ns: maybe(is.name) },
  veth: {},
  tap: { id, mode: is.oneOf('plain', 'napi', 'napi_frags'), mtu: maybe(is.integer), sndbuf: maybe(is.integer) },
  tap_write: { id, len: maybe(is.size), port: maybe(is.size), iov: maybe(is.sizes) },
  tap_read: { id, len: is.size },
  tap_tcp: { id, port: is.size },
  xdp: { dev: is.name, ns: maybe(is.name), action: is.name, mode: is.oneOf('native', 'generic') },
  repeat: {
    times: is.count,
    ops: { want: 'a list of operations', optional: false, accepts: Array.isArray },
  },
}

const RING_FAMILIES: ReadonlySet<string> = new Set([
  'tap-rx',
  'veth-rx',
  'packet-mmap',
  'af-xdp',
  'backlog',
  'page-pool',
  'swiotlb',
  'iommu',
])

/** Which of the three dialects a family is written in: a name such as `send` means three things. */
export type Dialect = 'sockets' | 'rings' | 'alloc'

/** @returns the dialect of a family of traces. A family that is not known is written in the socket verbs. */
export function dialectOf(family: string): Dialect {
  if (family === 'alloc') return 'alloc'
  return RING_FAMILIES.has(family) ? 'rings' : 'sockets'
}

const order: Readonly<Record<Dialect, readonly VerbTable[]>> = {
  sockets: [socketVerbs, linux61Verbs, ringVerbs, allocVerbs],
  rings: [ringVerbs, linux61Verbs, socketVerbs, allocVerbs],
  alloc: [allocVerbs, socketVerbs, ringVerbs, linux61Verbs],
}

/**
 * @returns the arguments of a verb in a dialect, `undefined` when there is no such verb. A verb that the
 * dialect lacks is taken from the others, so that a scenario may use all of them.
 */
export function verbArguments(dialect: Dialect, verb: string): ArgumentKinds | undefined {
  for (const table of order[dialect]) if (Object.hasOwn(table, verb)) return table[verb]
  return undefined
}
