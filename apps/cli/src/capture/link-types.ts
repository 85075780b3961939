/** Link types of captures by number (the LINKTYPE_ registry): those we read, and names for some that we do not. */

export const LINKTYPE_NULL = 0
export const LINKTYPE_ETHERNET = 1
export const LINKTYPE_RAW_BSD = 12
export const LINKTYPE_RAW_OPENBSD = 14
export const LINKTYPE_RAW = 101
export const LINKTYPE_LOOP = 108
export const LINKTYPE_LINUX_SLL = 113
export const LINKTYPE_IPV4 = 228
export const LINKTYPE_IPV6 = 229
export const LINKTYPE_LINUX_SLL2 = 276

const readable = new Map<number, string>([
  [LINKTYPE_NULL, 'BSD loopback'],
  [LINKTYPE_ETHERNET, 'Ethernet'],
  [LINKTYPE_RAW_BSD, 'raw IP'],
  [LINKTYPE_RAW_OPENBSD, 'raw IP'],
  [LINKTYPE_RAW, 'raw IP'],
  [LINKTYPE_LOOP, 'OpenBSD loopback'],
  [LINKTYPE_LINUX_SLL, 'Linux cooked (SLL)'],
  [LINKTYPE_IPV4, 'raw IPv4'],
  [LINKTYPE_IPV6, 'raw IPv6'],
  [LINKTYPE_LINUX_SLL2, 'Linux cooked (SLL2)'],
])

const known = new Map<number, string>([
  [6, 'Token Ring'],
  [9, 'PPP'],
  [10, 'FDDI'],
  [50, 'PPP over serial'],
  [105, '802.11'],
  [119, '802.11 Prism'],
  [127, '802.11 radiotap'],
  [147, 'private use'],
  [187, 'Bluetooth H4'],
  [189, 'USB'],
  [192, 'PPI'],
  [195, '802.15.4'],
  [201, 'Bluetooth H4'],
  [220, 'USB'],
  [227, 'CAN'],
  [239, 'NFLOG'],
  [249, 'USB'],
  [253, 'netlink'],
])

export const linkTypeIsRead = (type: number): boolean => readable.has(type)

/** @returns words such as `link type 105 (802.11)`. */
export function linkTypeText(type: number): string {
  const name = readable.get(type) ?? known.get(type)
  return name === undefined ? `link type ${type}` : `link type ${type} (${name})`
}

export const linkTypesRead = 'Ethernet, raw IP, Linux cooked (SLL, SLL2) or BSD loopback'
