export { inetCreate } from './af-inet.js'
export { Dst, dstMtu, llReservedSpace } from './dst.js'
export type { InetParams, InetProtosw, NetProtocol } from './inet-env.js'
export { InetEnv, inet6AddProtocol, inetAddProtocol, inetRegisterProtosw } from './inet-env.js'
export { inetInit } from './inet-init.js'
export type { Fib6Route, FibRoute, InetNet, Neighbour } from './inet-net.js'
export { InetSock, inetOf } from './inet-sock.js'
export type { AppendSource, ZeroCopyAppend } from './ip/ip-append.js'
export { ipv4Parse, ipv4Text } from './ip/ip-header.js'
export { IP_OPT, IPV6_OPT, SOL_IP, SOL_IPV6 } from './ip/ip-sockglue.js'
export { ipv6Parse } from './ip6/ipv6-header.js'
export {
  fib6Lookup,
  fibLookup,
  inet6AddrAdd,
  inetAddrAdd,
  inetDevDown,
  inetDevUp,
  inetRouteAdd,
  neighAdd,
} from './route.js'
export type { FlowKey } from './tcp/inet-hashtables.js'
export { TcpEnv } from './tcp/tcp-env.js'
export { type TcpInfo, tcpGetInfo } from './tcp/tcp-info.js'
export { tcpOf } from './tcp/tcp-init.js'
export { TcpSock, tcpSk } from './tcp/tcp-sock.js'
export { SOL_TCP, TCP_OPT } from './tcp/tcp-sockopt.js'
export { Udp, udpOf } from './udp/udp-env.js'
export { skbConsumeUdp, skbRecvUdp } from './udp/udp-recvmsg.js'
export { SOL_UDP, UDP_MAX_SEGMENTS, UDP_SEGMENT } from './udp/udp-send.js'
export { UdpSock, udpSk } from './udp/udp-sock.js'
export { UnixSock, unixSk } from './unix/unix-sock.js'
