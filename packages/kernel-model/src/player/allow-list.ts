/**
 * What counts as network memory in an allocation trace: the caches whose every event is kept, and the sites
 * that are kept whatever they allocate. Sites are kernel functions after inlining.
 */

export const NETWORK_CACHES: ReadonlySet<string> = new Set(
  `skbuff_head_cache skbuff_small_head skbuff_fclone_cache skbuff_ext_cache UDP TCP RAW PING UNIX UNIX-STREAM
  request_sock_TCP tw_sock_TCP tcp_bind_bucket tcp_bind2_bucket sock_inode_cache ip4-frags`.split(/\s+/),
)

export const NETWORK_SITES: ReadonlySet<string> = new Set(
  `__alloc_skb kmalloc_reserve pskb_expand_head skb_release_data skb_free_head kfree_skbmem skb_kfree_head sk_prot_alloc
  udp_init_sock udp_destruct_sock ip_setup_cork __ip_make_skb sock_kmalloc sock_kfree_s sock_wmalloc skb_page_frag_refill
  alloc_skb_with_frags skb_copy_ubufs __page_frag_alloc_align __page_frag_cache_refill page_frag_alloc_align page_frag_free
  __alloc_frag_align __netdev_alloc_frag_align __napi_alloc_frag_align page_pool_alloc_netmems
  __page_pool_alloc_netmems_slow page_pool_put_unrefed_netmem page_pool_return_netmem page_pool_put_unrefed_page
  page_pool_release page_pool_empty_ring skb_free_frag __skb_frag_unref skb_splice_from_iter inet_frag_find
  __inet_hash_connect inet_csk_get_port inet_bind2_bucket_create inet_bind_bucket_create inet_put_port`.split(/\s+/),
)
