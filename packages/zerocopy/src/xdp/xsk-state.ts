/** Where a socket is in its life. */

/** Models `XSK_READY`, `XSK_BOUND`, `XSK_UNBOUND`. */
export const XSK_READY = 0
export const XSK_BOUND = 1
export const XSK_UNBOUND = 2
