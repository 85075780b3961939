/**
 * Intel's PCI Express gigabit cards (82574L and its family). Every received frame ends its buffer's mapping; a frame
 * under 256 bytes is then copied, and the same buffer mapped anew for the card.
 */
import type { NetDevice } from '../net-device.js'
import type { NetDevs } from '../net-devs.js'
import type { IntelNicParams } from './e1000.js'
import { ringNicCreate } from './ring-nic.js'

/** Models `COPYBREAK_DEFAULT`: frames shorter than this are copied. The card has taken the checksum off by then. */
const COPYBREAK_DEFAULT = 256
/** Models `VLAN_ETH_FRAME_LEN + ETH_FCS_LEN`: what the card may write for an MTU of 1500. */
const RX_BUFFER_BYTES = 1522
/** Models `E1000_DEFAULT_RXD` and `E1000_DEFAULT_TXD`. */
const E1000_DEFAULT_DESCRIPTORS = 256
/** The shortest frame that the card takes when it does the padding (`TCTL.PSP`). */
const PSP_MIN_BYTES = 17

/** Models `e1000_probe` (drivers/net/ethernet/intel/e1000e/netdev.c). @returns the device, down; or -errno. */
export function e1000eCreate(env: NetDevs, p: IntelNicParams): NetDevice | number {
  return ringNicCreate(env, {
    rxRing: E1000_DEFAULT_DESCRIPTORS,
    txRing: E1000_DEFAULT_DESCRIPTORS,
    ...p,
    bufBytes: RX_BUFFER_BYTES,
    copybreak: COPYBREAK_DEFAULT,
    keepMapped: false,
    minXmitBytes: PSP_MIN_BYTES,
  })
}
