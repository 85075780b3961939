/** Models `SPLICE_F_*` (include/linux/splice.h). */
export const SPLICE_F_MOVE = 1
export const SPLICE_F_NONBLOCK = 2
export const SPLICE_F_MORE = 4
export const SPLICE_F_GIFT = 8
export const SPLICE_F_ALL = 15
