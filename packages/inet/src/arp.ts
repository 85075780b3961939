/**
 * The two link protocols beside IP that answer for their EtherType: ARP and 802.2. Neither keeps anything.
 *
 * Differs: neighbours are permanent entries here, so a good ARP packet changes nothing and nobody answers it.
 */
import type { Cpu } from '@netmem/base'
import { consumeSkb, kfreeSkb, PACKET_LOOPBACK, PACKET_OTHERHOST, pskbMayPull, type SkBuff } from '@netmem/skbuff'
import { devAddPack, ETH_P_802_2, ETH_P_ARP, IFF_NOARP, type NetDevice } from '@netmem/virtual-nic'
import type { InetEnv } from './inet-env.js'

/** Models `arp_hdr_len` of Ethernet and IPv4, in bytes. */
const ARP_BYTES = 28
const ARP_HLN = 4
const ARP_PLN = 5
const ETH_ALEN = 6
const NET_RX_DROP = 1

/** Models `arp_rcv` (net/ipv4/arp.c). Takes the skb. */
function arpRcv(env: InetEnv, cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
  if ((dev.flags & IFF_NOARP) !== 0 || skb.pktType === PACKET_OTHERHOST || skb.pktType === PACKET_LOOPBACK) {
    consumeSkb(cpu, skb, 'arp_rcv')
    return 0
  }
  if (!pskbMayPull(cpu, skb, ARP_BYTES)) {
    kfreeSkb(cpu, skb, env.profile.features.arpDropReasons ? 'PKT_TOO_SMALL' : 'NOT_SPECIFIED', 'arp_rcv')
    return 0
  }
  const { u8 } = env.mem
  const at = skb.data >>> 0
  if (u8[at + ARP_HLN] === ETH_ALEN && u8[at + ARP_PLN] === 4) consumeSkb(cpu, skb, 'arp_process')
  else kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'arp_rcv')
  return 0
}

/** Models `llc_rcv` (net/llc/llc_input.c) where no service access point is open. Takes the skb. */
function llcRcv(cpu: Cpu, skb: SkBuff): number {
  kfreeSkb(cpu, skb, 'NOT_SPECIFIED', 'llc_rcv')
  return NET_RX_DROP
}

/** Models `arp_init` and, where the kernel has it built in (feature `llc`), `llc_init`. */
export function linkProtocolsInit(env: InetEnv): void {
  devAddPack(env.devs, { type: ETH_P_ARP, name: 'arp_rcv', func: (cpu, skb, dev) => arpRcv(env, cpu, skb, dev) })
  if (env.profile.features.llc)
    devAddPack(env.devs, { type: ETH_P_802_2, name: 'llc_rcv', func: (cpu, skb) => llcRcv(cpu, skb) })
}
