/**
 * What a device can do for the stack, as one small integer. The kernel's mask is 64 bits wide; the bits
 * that memory behaviour depends on are kept here under the kernel's names, at our own positions.
 */

/** Models the bits of `netdev_features_t` (include/linux/netdev_features.h); positions are ours. */
export const NETIF_F_SG = 1 << 0
export const NETIF_F_HW_CSUM = 1 << 1
export const NETIF_F_IP_CSUM = 1 << 2
export const NETIF_F_IPV6_CSUM = 1 << 3
export const NETIF_F_HIGHDMA = 1 << 4
export const NETIF_F_FRAGLIST = 1 << 5
export const NETIF_F_GSO = 1 << 6
export const NETIF_F_GRO = 1 << 7
export const NETIF_F_LLTX = 1 << 8
export const NETIF_F_TSO = 1 << 9
export const NETIF_F_TSO_ECN = 1 << 10
export const NETIF_F_TSO6 = 1 << 11
export const NETIF_F_TSO_MANGLEID = 1 << 12
export const NETIF_F_GSO_UDP_L4 = 1 << 13
export const NETIF_F_GSO_FRAGLIST = 1 << 14
export const NETIF_F_GRO_FRAGLIST = 1 << 15
export const NETIF_F_GRO_UDP_FWD = 1 << 16
export const NETIF_F_RXCSUM = 1 << 17
export const NETIF_F_RXHASH = 1 << 18
export const NETIF_F_HW_VLAN_CTAG_TX = 1 << 19
export const NETIF_F_HW_VLAN_CTAG_RX = 1 << 20
export const NETIF_F_LOOPBACK = 1 << 21
export const NETIF_F_LRO = 1 << 22
export const NETIF_F_GRO_HW = 1 << 23
export const NETIF_F_VLAN_CHALLENGED = 1 << 24
export const NETIF_F_HW_TLS_TX = 1 << 25

/** Models `NETIF_F_ALL_TSO`. */
export const NETIF_F_ALL_TSO = NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN | NETIF_F_TSO_MANGLEID
/** Models `NETIF_F_GSO_SOFTWARE`: what the stack can segment by itself, so any device may offer it. */
export const NETIF_F_GSO_SOFTWARE = NETIF_F_ALL_TSO | NETIF_F_GSO_UDP_L4 | NETIF_F_GSO_FRAGLIST
/** Models `NETIF_F_SOFT_FEATURES`: switched on for every device at registration. */
export const NETIF_F_SOFT_FEATURES = NETIF_F_GSO | NETIF_F_GRO
/** Models `NETIF_F_CSUM_MASK`. */
export const NETIF_F_CSUM_MASK = NETIF_F_HW_CSUM | NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM

/** Models the bits of `SKB_GSO_*` (include/linux/skbuff.h), with the kernel's values: they live in packet memory. */
export const SKB_GSO_TCPV4 = 1 << 0
export const SKB_GSO_DODGY = 1 << 1
export const SKB_GSO_TCP_ECN = 1 << 2
export const SKB_GSO_TCP_FIXEDID = 1 << 3
export const SKB_GSO_TCPV6 = 1 << 4
export const SKB_GSO_PARTIAL = 1 << 13
export const SKB_GSO_UDP = 1 << 16
export const SKB_GSO_UDP_L4 = 1 << 17
export const SKB_GSO_FRAGLIST = 1 << 18
/** Models `GSO_BY_FRAGS`. */
export const GSO_BY_FRAGS = 0xffff

/**
 * Models `net_gso_ok`: can a device with these features take a packet of this GSO type whole?
 *
 * @param gsoType bits of `SKB_GSO_*`.
 */
export function netGsoOk(features: number, gsoType: number): boolean {
  if ((gsoType & SKB_GSO_TCPV4) !== 0 && (features & NETIF_F_TSO) === 0) return false
  if ((gsoType & SKB_GSO_TCPV6) !== 0 && (features & NETIF_F_TSO6) === 0) return false
  if ((gsoType & SKB_GSO_TCP_ECN) !== 0 && (features & NETIF_F_TSO_ECN) === 0) return false
  if ((gsoType & SKB_GSO_TCP_FIXEDID) !== 0 && (features & NETIF_F_TSO_MANGLEID) === 0) return false
  if ((gsoType & SKB_GSO_UDP_L4) !== 0 && (features & NETIF_F_GSO_UDP_L4) === 0) return false
  if ((gsoType & SKB_GSO_FRAGLIST) !== 0 && (features & NETIF_F_GSO_FRAGLIST) === 0) return false
  // A header written by somebody we do not trust must be checked by the software path first.
  if ((gsoType & (SKB_GSO_DODGY | SKB_GSO_UDP)) !== 0) return false
  return true
}

/**
 * Models `netdev_fix_features` (net/core/dev.c): what depends on a feature goes when that feature goes.
 *
 * @returns the features that may be on together.
 */
export function netdevFixFeatures(features: number): number {
  let f = features
  // Segmentation writes checksums: without checksum offload it cannot be done by the device.
  if ((f & NETIF_F_TSO) !== 0 && (f & (NETIF_F_HW_CSUM | NETIF_F_IP_CSUM)) === 0)
    f &= ~(NETIF_F_TSO | NETIF_F_TSO_ECN | NETIF_F_TSO_MANGLEID)
  if ((f & NETIF_F_TSO6) !== 0 && (f & (NETIF_F_HW_CSUM | NETIF_F_IPV6_CSUM)) === 0) f &= ~NETIF_F_TSO6
  if ((f & NETIF_F_SG) === 0) f &= ~(NETIF_F_ALL_TSO | NETIF_F_GSO)
  if ((f & NETIF_F_GSO_UDP_L4) !== 0 && (f & NETIF_F_HW_CSUM) === 0)
    if ((f & (NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM)) !== (NETIF_F_IP_CSUM | NETIF_F_IPV6_CSUM)) f &= ~NETIF_F_GSO_UDP_L4
  if ((f & NETIF_F_RXCSUM) === 0) f &= ~NETIF_F_GRO_HW
  return f
}
