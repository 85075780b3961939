/** An Ethernet hub: what one port sends, every other port receives, at once and undamaged. */
import type { WirePort } from '../hw/nic-hw.js'

/** What plugs into a hub: a card. */
type HubPort = WirePort & { wire: WirePort | null }

/** Connects cards to one hub. What each of them sends arrives at all others, in the order given. */
export function hubConnect(ports: readonly HubPort[]): void {
  for (const port of ports) {
    const others = ports.filter((other) => other !== port)
    port.wire = {
      receive: (bytes, at, len) => {
        for (const other of others) other.receive(bytes, at, len)
      },
    }
  }
}
