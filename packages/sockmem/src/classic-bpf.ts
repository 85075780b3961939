/**
 * Running classic packet filters: one accumulator, one index, sixteen words of scratch. Programs have been checked
 * (`bpf-check.ts`); loads beyond the packet end them.
 */
import {
  fragAddr,
  fragLen,
  fragList,
  nrFrags,
  SKB_HEADER_UNSET,
  SKB_VLAN_PRESENT,
  type SkBuff,
  skbHeadlen,
} from '@netmem/skbuff'
import {
  AD,
  ALU,
  ancillaryOf,
  B,
  BPF_MEMWORDS,
  DIV,
  H,
  IMM,
  IND,
  JMP,
  LD,
  LDX,
  LEN,
  MEM,
  MISC,
  MOD,
  MSH,
  RET,
  SKF_LL_OFF,
  SKF_NET_OFF,
  SRC_X,
  ST,
  STX,
  W,
} from './bpf-numbers.js'
import { skbGetPoff } from './bpf-poff.js'

/**
 * Models `bpf_prog_run` of a classic program over a packet.
 *
 * @returns how many bytes to keep, as an unsigned number; 0 drops. A load beyond the packet drops too.
 */
export function bpfRunClassic(insns: Int32Array, skb: SkBuff): number {
  let a = 0
  let x = 0
  let scratch: Int32Array | null = null
  for (let pc = 0; ; pc += 1) {
    const at = pc * 4
    const code = insns[at]
    const k = insns[at + 3]
    const mode = code & 0xe0
    switch (code & 7) {
      case LD:
        if (mode === IMM) a = k
        else if (mode === MEM) a = scratch === null ? 0 : scratch[k]
        else if (mode === LEN) a = skb.len
        else {
          const what = ancillaryOf(code, k)
          const value = what < 0 ? load(skb, mode === IND ? (x + k) | 0 : k, code & 0x18) : ancillary(skb, what, a, x)
          if (value === null) return 0
          a = value
        }
        break
      case LDX:
        if (mode === IMM) x = k
        else if (mode === MEM) x = scratch === null ? 0 : scratch[k]
        else if (mode === LEN) x = skb.len
        else if (mode === MSH) {
          const value = load(skb, k, B)
          if (value === null) return 0
          x = (value & 15) << 2
        }
        break
      case ST:
        scratch ??= new Int32Array(BPF_MEMWORDS)
        scratch[k] = a
        break
      case STX:
        scratch ??= new Int32Array(BPF_MEMWORDS)
        scratch[k] = x
        break
      case ALU: {
        const value = alu(code & 0xf0, a, (code & SRC_X) !== 0 ? x : k)
        if (value === null) return 0
        a = value
        break
      }
      case JMP: {
        const op = code & 0xf0
        if (op === 0) pc += k
        else pc += jump(op, a >>> 0, ((code & SRC_X) !== 0 ? x : k) >>> 0) ? insns[at + 1] : insns[at + 2]
        break
      }
      case RET:
        return ((code & 0x18) === 0x10 ? a : (code & 0x18) === SRC_X ? x : k) >>> 0
      case MISC:
        if ((code & 0xf8) === 0) x = a
        else a = x
        break
    }
  }
}

function load(skb: SkBuff, offset: number, size: number): number | null {
  const bytes = size === W ? 4 : size === H ? 2 : 1
  if (offset < 0) return loadNegative(skb, offset, bytes)
  if (offset + bytes > skb.len) return null
  let value = 0
  for (let i = 0; i < bytes; i += 1) value = (value << 8) | byteAt(skb, offset + i)
  return bytes === 4 ? value : value >>> 0
}

/** Models `bpf_internal_load_pointer_neg_helper`: from a header on, inside the linear part of the packet. */
function loadNegative(skb: SkBuff, offset: number, bytes: number): number | null {
  let at: number
  if (offset >= SKF_NET_OFF) at = (skb.head + skb.networkHeader + offset - SKF_NET_OFF) | 0
  else if (offset >= SKF_LL_OFF && skb.macHeader !== SKB_HEADER_UNSET)
    at = (skb.head + skb.macHeader + offset - SKF_LL_OFF) | 0
  else return null
  if (((at - skb.head) | 0) < 0 || ((skb.tail - at) | 0) < bytes) return null
  let value = 0
  for (let i = 0; i < bytes; i += 1) value = (value << 8) | skb.env.u8[(at + i) >>> 0]
  return bytes === 4 ? value : value >>> 0
}

// Filters read headers, which are linear; the rest of this function is for the odd one that looks further.
function byteAt(skb: SkBuff, offset: number): number {
  const { u8, skbs } = skb.env
  const linear = skbHeadlen(skb)
  if (offset < linear) return u8[(skb.data + offset) >>> 0]
  let left = offset - linear
  for (let i = 0; i < nrFrags(skb); i += 1) {
    if (left < fragLen(skb, i)) return u8[(fragAddr(skb, i) + left) >>> 0]
    left -= fragLen(skb, i)
  }
  for (let id = fragList(skb); id !== 0; id = skbs[id].next) {
    if (left < skbs[id].len) return byteAt(skbs[id], left)
    left -= skbs[id].len
  }
  return 0
}

/**
 * Models the `SKF_AD_*` loads. @returns null when the program ends: facts of a device that the packet has not.
 */
function ancillary(skb: SkBuff, what: number, a: number, x: number): number | null {
  switch (what) {
    case AD.PROTOCOL:
      return skb.protocol
    case AD.PKTTYPE:
      return skb.pktType
    case AD.IFINDEX:
      return skb.dev === 0 ? null : skb.dev
    case AD.HATYPE:
      return skb.dev === 0 ? null : skb.env.slots.devType(skb.dev)
    case AD.NLATTR:
      return nlattrFind(skb, a, skb.len, x)
    case AD.NLATTR_NEST:
      return nlattrFindNested(skb, a, x)
    case AD.MARK:
      return skb.mark
    case AD.QUEUE:
      return skb.queueMapping
    case AD.RXHASH:
      return skb.hash
    case AD.CPU:
      return skb.allocCpu
    case AD.ALU_XOR_X:
      return a ^ x
    case AD.VLAN_TAG:
      return skb.vlanTci
    case AD.VLAN_TAG_PRESENT:
      return (skb.flags & SKB_VLAN_PRESENT) !== 0 ? 1 : 0
    case AD.VLAN_TPID:
      return (skb.flags & SKB_VLAN_PRESENT) !== 0 ? skb.vlanProto : 0
    case AD.PAY_OFFSET:
      return skbGetPoff(skb)
    default:
      return skb.env.slots.random()
  }
}

const NLA_HDRLEN = 4
/** Models `NLA_TYPE_MASK`: without the two bits of flags. */
const NLA_TYPE_MASK = 0x3fff

/** Models `bpf_skb_get_nlattr` with `nla_find`. @returns the attribute's offset in the packet, 0 when there is none. */
function nlattrFind(skb: SkBuff, from: number, to: number, type: number): number {
  if (skb.dataLen !== 0 || skb.len < NLA_HDRLEN || from >>> 0 > skb.len - NLA_HDRLEN) return 0
  const { dv } = skb.env.mem
  let at = from >>> 0
  let left = to - at
  while (left >= NLA_HDRLEN) {
    const len = dv.getUint16((skb.data + at) >>> 0, true)
    if (len < NLA_HDRLEN || len > left) return 0
    if ((dv.getUint16((skb.data + at + 2) >>> 0, true) & NLA_TYPE_MASK) === type) return at
    const whole = (len + 3) & ~3
    left -= whole
    at += whole
  }
  return 0
}

/** Models `bpf_skb_get_nlattr_nest`: the same inside the attribute that starts at `a`. */
function nlattrFindNested(skb: SkBuff, a: number, x: number): number {
  if (skb.dataLen !== 0 || skb.len < NLA_HDRLEN || a >>> 0 > skb.len - NLA_HDRLEN) return 0
  const len = skb.env.mem.dv.getUint16((skb.data + a) >>> 0, true)
  if (len > skb.len - a) return 0
  return nlattrFind(skb, a + NLA_HDRLEN, a + len, x)
}

function alu(op: number, a: number, b: number): number | null {
  switch (op) {
    case 0x00:
      return (a + b) | 0
    case 0x10:
      return (a - b) | 0
    case 0x20:
      return Math.imul(a, b)
    case DIV:
      return b === 0 ? null : ((a >>> 0) / (b >>> 0)) | 0
    case 0x40:
      return a | b
    case 0x50:
      return a & b
    case 0x60:
      return a << b
    case 0x70:
      return (a >>> b) | 0
    case 0x80:
      return -a | 0
    case MOD:
      return b === 0 ? null : ((a >>> 0) % (b >>> 0)) | 0
    case 0xa0:
      return a ^ b
    default:
      return null
  }
}

function jump(op: number, a: number, b: number): boolean {
  if (op === 0x10) return a === b
  if (op === 0x20) return a > b
  if (op === 0x30) return a >= b
  return (a & b) !== 0
}
