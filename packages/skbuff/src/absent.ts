/** Names from older kernels and older articles. Asking for one is an error that says what took its place. */
import { bug } from '@netmem/base'

/**
 * Absent: `skb_recycle` and `__skb_recycle`, gone since 3.7. Nothing recycles a whole skb any more.
 *
 * @throws KernelBug naming what does the two halves of that work today.
 */
export function skbRecycle(): never {
  return bug('skb_recycle does not exist: heads return through napi_consume_skb, pages through pp_recycle')
}

/**
 * Absent: `skb_recycle_check`, gone with it.
 *
 * @throws KernelBug naming its replacement.
 */
export function skbRecycleCheck(): never {
  return bug('skb_recycle_check does not exist: napi_consume_skb decides by itself')
}
