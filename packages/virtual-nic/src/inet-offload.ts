/** The offloads of IPv4 and IPv6, which every machine has from the start. Models `ipv4_offload_init` and `ipv6_offload_init`. */
import { inetGroComplete, inetGroReceive } from './gro-inet.js'
import { inetGsoSegment } from './gso-inet.js'
import type { NetDevs } from './net-devs.js'
import { devAddOffload, type PacketOffload } from './offload.js'
import { ETH_P_IP, ETH_P_IPV6 } from './packet-type.js'

const offload = (env: NetDevs, type: number, v6: boolean): PacketOffload => ({
  type,
  groReceive: (cpu, napi, bucket, skb) => inetGroReceive(cpu, napi, bucket, skb, v6),
  groComplete: (skb) => inetGroComplete(env, skb, v6),
  gsoSegment: (cpu, skb, features) => inetGsoSegment(env, cpu, skb, features, v6),
})

export function inetOffloadInit(env: NetDevs): void {
  devAddOffload(env, offload(env, ETH_P_IP, false))
  devAddOffload(env, offload(env, ETH_P_IPV6, true))
}
