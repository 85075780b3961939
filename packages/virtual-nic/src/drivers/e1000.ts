/**
 * Intel's PCI gigabit cards (82540EM and its family). A frame of at most 256 bytes, its checksum counted, is copied
 * out of a buffer that stays mapped: it costs a sync instead of an unmap and a map, and the card gets the same
 * buffer again.
 */

import { ETH_ZLEN } from '../eth.js'
import type { NetDevice } from '../net-device.js'
import type { NetDevs } from '../net-devs.js'
import { type RingNicParams, ringNicCreate } from './ring-nic.js'

/** Models `COPYBREAK_DEFAULT`: bytes on the wire up to which a frame is copied. */
const COPYBREAK_DEFAULT = 256
const ETH_FCS_LEN = 4
/** Models `MAXIMUM_ETHERNET_VLAN_SIZE`: what the card may write for an MTU of 1500. */
const MAXIMUM_ETHERNET_VLAN_SIZE = 1522
/** Models `E1000_DEFAULT_RXD` and `E1000_DEFAULT_TXD`. */
const E1000_DEFAULT_DESCRIPTORS = 256

/** What plugs a card in: where, how its device reaches memory, and what ethtool sets of it. */
export type IntelNicParams = Pick<RingNicParams, 'name' | 'ns' | 'device'> &
  Partial<Pick<RingNicParams, 'rxRing' | 'txRing' | 'rxUsecs' | 'rxFrames' | 'rxChecksum' | 'maxFrameBytes'>>

/** Models `e1000_probe` (drivers/net/ethernet/intel/e1000/e1000_main.c). @returns the device, down; or -errno. */
export function e1000Create(env: NetDevs, p: IntelNicParams): NetDevice | number {
  return ringNicCreate(env, {
    rxRing: E1000_DEFAULT_DESCRIPTORS,
    txRing: E1000_DEFAULT_DESCRIPTORS,
    ...p,
    bufBytes: MAXIMUM_ETHERNET_VLAN_SIZE,
    // `e1000_copybreak` compares before the checksum is taken off, and with its bound included.
    copybreak: COPYBREAK_DEFAULT - ETH_FCS_LEN + 1,
    keepMapped: true,
    // PCI cards may spoil a short frame while they pad it, so the driver does that itself.
    minXmitBytes: ETH_ZLEN,
  })
}
