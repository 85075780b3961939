/**
 * The loopback device: what is sent comes back through the CPU's backlog. It has no queue and no memory of its
 * own; the sender's buffer is the receiver's buffer.
 */
import type { Cpu } from '@netmem/base'
import { type SkBuff, skbOrphan } from '@netmem/skbuff'
import { netifRxUnchecked } from '../backlog.js'
import { netdevRegister } from '../dev-register.js'
import { ETH_MAX_MTU, ethTypeTrans } from '../eth.js'
import {
  NETIF_F_FRAGLIST,
  NETIF_F_GSO_SOFTWARE,
  NETIF_F_HIGHDMA,
  NETIF_F_HW_CSUM,
  NETIF_F_LLTX,
  NETIF_F_LOOPBACK,
  NETIF_F_RXCSUM,
  NETIF_F_SG,
  NETIF_F_VLAN_CHALLENGED,
} from '../features.js'
import {
  ARPHRD_LOOPBACK,
  IFF_LOOPBACK,
  NET_RX_SUCCESS,
  NETDEV_TX_OK,
  type NetDevice,
  type NetDeviceOps,
  RX_BYTES,
  RX_PACKETS,
  TX_BYTES,
  TX_PACKETS,
} from '../net-device.js'
import type { NetDevs } from '../net-devs.js'

const loopbackOps: NetDeviceOps = {
  /** Models `loopback_xmit` (drivers/net/loopback.c). A full backlog loses the packet; the sender is not told. */
  startXmit(cpu: Cpu, skb: SkBuff, dev: NetDevice): number {
    // The receiver may keep the packet for ever: from here on it is not the sender's.
    skbOrphan(cpu, skb)
    ethTypeTrans(skb, dev)
    const len = skb.len
    if (netifRxUnchecked(dev.env, cpu, skb) === NET_RX_SUCCESS) {
      const stats = dev.stats
      stats[RX_PACKETS]!++
      stats[TX_PACKETS]!++
      stats[RX_BYTES]! += len
      stats[TX_BYTES]! += len
    }
    return NETDEV_TX_OK
  },
}

/** Models `loopback_net_init`. @returns the namespace's `lo`, down, or -errno. */
export function loopbackCreate(env: NetDevs, ns = 0): NetDevice | number {
  return netdevRegister(env, {
    name: 'lo',
    ns,
    ops: loopbackOps,
    setup: (dev) => {
      dev.type = ARPHRD_LOOPBACK
      dev.flags = IFF_LOOPBACK
      dev.mtu = 64 * 1024
      dev.maxMtu = 0
      dev.minMtu = 0
      dev.noQueue = true
      dev.hwFeatures = NETIF_F_GSO_SOFTWARE
      dev.features =
        NETIF_F_SG |
        NETIF_F_FRAGLIST |
        NETIF_F_GSO_SOFTWARE |
        NETIF_F_HW_CSUM |
        NETIF_F_RXCSUM |
        NETIF_F_HIGHDMA |
        NETIF_F_LLTX |
        NETIF_F_LOOPBACK |
        NETIF_F_VLAN_CHALLENGED
      // 64 KiB of payload and its headers travel as one packet.
      dev.gsoMaxSize = ETH_MAX_MTU + 1
    },
  })
}
