/** Finding the transport header of a packet that came without offloads described. */
import { type SkBuff, skbHeadlen } from '@netmem/skbuff'
import { ETH_P_IP, ETH_P_IPV6 } from '../packet-type.js'

/**
 * Models `skb_probe_transport_header` and the flow dissection in front of it: sets the transport header when the
 * packet is IP and its header is there. `data` is at the network header.
 *
 * @param proto the transport that is expected, 0 for any. @param offset of the network header, from `data`.
 * @returns false when it is another.
 */
export function skbProbeTransportHeader(skb: SkBuff, proto = 0, offset = 0): boolean {
  const dv = skb.env.mem.dv
  const at = (skb.data + offset) >>> 0
  const have = skbHeadlen(skb) - offset
  let length = 0
  let found = 0
  if (skb.protocol === ETH_P_IP && have >= 20) {
    length = (dv.getUint8(at) & 15) * 4
    found = dv.getUint8(at + 9)
  } else if (skb.protocol === ETH_P_IPV6 && have >= 40) {
    length = 40
    found = dv.getUint8(at + 6)
  } else return proto === 0
  if (proto !== 0 && proto !== found) return false
  if (length >= 20 && length <= have) skb.transportHeader = (skb.data - skb.head + offset + length) | 0
  return true
}
