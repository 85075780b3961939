/** The classic instruction set as programs are written in it (include/uapi/linux/bpf_common.h and filter.h). */

/** Models `BPF_MAXINSNS`. */
export const BPF_MAXINSNS = 4096
/** Models `BPF_MEMWORDS`. */
export const BPF_MEMWORDS = 16

// Instruction classes and fields.
export const LD = 0
export const LDX = 1
export const ST = 2
export const STX = 3
export const ALU = 4
export const JMP = 5
export const RET = 6
export const MISC = 7
export const W = 0x00
export const H = 0x08
export const B = 0x10
export const IMM = 0x00
export const ABS = 0x20
export const IND = 0x40
export const MEM = 0x60
export const LEN = 0x80
export const MSH = 0xa0
export const SRC_X = 0x08
export const RVAL_A = 0x10
export const LSH = 0x60
export const RSH = 0x70
export const DIV = 0x30
export const MOD = 0x90
export const JA = 0x00

/** Models `SKF_AD_OFF`: loads from here on read facts about the packet instead of its bytes. Signed. */
export const SKF_AD_OFF = -0x1000
/** Models `SKF_NET_OFF` and `SKF_LL_OFF`: loads from here on count from the network or the link header. */
export const SKF_NET_OFF = -0x100000
export const SKF_LL_OFF = -0x200000

/** Models `SKF_AD_*`. */
export const AD = {
  PROTOCOL: 0,
  PKTTYPE: 4,
  IFINDEX: 8,
  NLATTR: 12,
  NLATTR_NEST: 16,
  MARK: 20,
  QUEUE: 24,
  HATYPE: 28,
  RXHASH: 32,
  CPU: 36,
  ALU_XOR_X: 40,
  VLAN_TAG: 44,
  VLAN_TAG_PRESENT: 48,
  PAY_OFFSET: 52,
  RANDOM: 56,
  VLAN_TPID: 60,
} as const

/** Models `bpf_anc_helper`: which fact an instruction loads, -1 for one that loads bytes. */
export function ancillaryOf(code: number, k: number): number {
  if ((code & 7) !== LD || (code & 0xe0) !== ABS || k < SKF_AD_OFF || k >= 0) return -1
  const what = k - SKF_AD_OFF
  return (what & 3) === 0 && what <= AD.VLAN_TPID ? what : -1
}
