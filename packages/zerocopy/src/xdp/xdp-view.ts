/** The pieces of a frame as virtual-nic shows it. */
import { SHINFO_FRAG_WORDS, SHINFO_FRAGS_WORD } from '@netmem/skbuff'
import { type XdpBuff, xdpDataHardEnd } from '@netmem/virtual-nic'

export { type XdpBuff, xdpGetBuffLen } from '@netmem/virtual-nic'

const fragWord = (xdp: XdpBuff, i: number): number =>
  (xdpDataHardEnd(xdp) >>> 2) + SHINFO_FRAGS_WORD + i * SHINFO_FRAG_WORDS

/** Models `skb_frag_address` of a frame's fragment. */
export const fragmentAddr = (xdp: XdpBuff, i: number): number => {
  const word = fragWord(xdp, i)
  return ((xdp.mem.i32[word]! << 12) + xdp.mem.i32[word + 3]!) | 0
}

/** Models `skb_frag_size` of a frame's fragment. */
export const fragmentLen = (xdp: XdpBuff, i: number): number => xdp.mem.i32[fragWord(xdp, i) + 2]!
