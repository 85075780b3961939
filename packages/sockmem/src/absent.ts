/**
 * Names that programs and articles about older kernels use and neither kernel here has. Calling one is an
 * error that names what took its place.
 */
import { bug } from '@netmem/base'

/** Absent: `SK_MEM_QUANTUM`, removed in 6.0: sockets take memory from their protocol in pages. */
export function SK_MEM_QUANTUM(): never {
  return bug('SK_MEM_QUANTUM is gone since 6.0: the unit of socket memory is the page (profile.page_size)')
}

/** Absent: `sk_tx_skb_cache`, removed in 5.16: no packet is kept per socket for the next send. */
export function skTxSkbCache(): never {
  return bug('sk_tx_skb_cache is gone since 5.16: sends allocate with tcpStreamAllocSkb each time')
}
