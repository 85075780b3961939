/**
 * Selective acknowledgements as the sender reads them. Each SACKed packet is marked in the retransmit queue;
 * its memory goes only with the cumulative ACK, for a receiver may still throw it away.
 *
 * Differs: the kernel shifts SACKed bytes of neighbours into one packet (`tcp_shift_skb_data`) to keep the
 * queue short; here packets stay as they were sent.
 */
import type { Cpu, Gfp } from '@netmem/base'
import { type SkBuff, skbPeek } from '@netmem/skbuff'
import type { Sock } from '@netmem/sockmem'
import { after, before } from './seq.js'
import { FLAG_DATA_SACKED, FLAG_DSACK_TLP, FLAG_DSACKING_ACK, FLAG_ORIG_SACK_ACKED } from './tcp-ack-flags.js'
import { tcpFragmentRtx } from './tcp-fragment.js'
import { addStats, incStats, MIB } from './tcp-mib.js'
import { TCP_DSACK_SEEN } from './tcp-options.js'
import { tcpRateSkbDelivered } from './tcp-rate.js'
import { tcpRackAdvance } from './tcp-recovery.js'
import {
  be32,
  TCPCB_LOST,
  TCPCB_RETRANS,
  TCPCB_SACKED_ACKED,
  TCPCB_SACKED_RETRANS,
  tcpSackOffset,
  tcpSkbMss,
  tcpSkbPcount,
} from './tcp-skb.js'
import { TCP_CA_LOSS, TCP_NUM_SACKS, type TcpSock, tcpIsSack, tcpSk } from './tcp-sock.js'

/** Models `struct tcp_sacktag_state`; one per machine. */
export class SacktagState {
  haveSackt = false
  firstSackt = 0
  lastSackt = 0
  reord = 0
  sackDelivered = 0
  flag = 0
  readonly blocks = new Int32Array(TCP_NUM_SACKS * 2)

  reset(): void {
    this.haveSackt = false
    this.firstSackt = 0
    this.lastSackt = 0
    this.reord = 0
    this.sackDelivered = 0
    this.flag = 0
  }
}

/** Models `tcp_highest_sack_seq`. */
export function tcpHighestSackSeq(tp: TcpSock): number {
  if (tp.sackedOut === 0) return tp.sndUna
  return tp.highestSack === 0 ? tp.sndNxt : tp.env.skbs.skbs[tp.highestSack]!.cb0
}

/** Models `tcp_dsack_seen`. */
function tcpDsackSeen(tp: TcpSock, start: number, end: number, state: SacktagState): number {
  if (!before(start, end)) return 0
  const len = (end - start) >>> 0
  if (len > tp.maxWindow) return 0
  let segs = 1
  if (len > tp.mssCache) segs = Math.ceil(len / tp.mssCache)
  else if (tp.tlpHighSeq !== 0 && tp.tlpHighSeq === end) state.flag |= FLAG_DSACK_TLP
  tp.dsackDups += segs
  if (tp.dsackDups > tp.totalRetrans) return 0
  tp.rx.sackOk |= TCP_DSACK_SEEN
  if (tp.reordSeen !== 0 && (state.flag & FLAG_DSACK_TLP) === 0) tp.rackDsackSeen = 1
  state.flag |= FLAG_DSACKING_ACK
  state.sackDelivered += segs
  return segs
}

/** Models `tcp_check_dsack`: does the first block report something received twice? */
function tcpCheckDsack(
  sk: Sock,
  tp: TcpSock,
  ack: number,
  sp: Int32Array,
  count: number,
  priorUna: number,
  state: SacktagState,
): boolean {
  const start = sp[0]!
  const end = sp[1]!
  if (before(start, ack)) incStats(sk, MIB.TCPDSACKRecv)
  else if (count > 1 && !after(end, sp[3]!) && !before(start, sp[2]!)) incStats(sk, MIB.TCPDSACKOfoRecv)
  else return false
  const segs = tcpDsackSeen(tp, start, end, state)
  if (segs === 0) {
    incStats(sk, MIB.TCPDSACKIgnoredDubious)
    return false
  }
  addStats(sk, MIB.TCPDSACKRecvSegs, segs)
  // The retransmission that was not needed can be taken back.
  if (tp.undoMarker !== 0 && tp.undoRetrans > 0 && !after(end, priorUna) && after(end, tp.undoMarker))
    tp.undoRetrans = Math.max(0, tp.undoRetrans - segs)
  return true
}

/** Models `tcp_is_sackblock_valid`. */
function sackblockValid(tp: TcpSock, isDsack: boolean, start: number, end: number): boolean {
  if (after(end, tp.sndNxt) || !before(start, end)) return false
  if (!before(start, tp.sndNxt)) return false
  if (after(start, tp.sndUna)) return true
  if (!isDsack || tp.undoMarker === 0) return false
  if (after(end, tp.sndUna)) return false
  if (!before(start, tp.undoMarker)) return true
  if (!after(end, tp.undoMarker)) return false
  return !before(start, (end - tp.maxWindow) | 0)
}

/** Models `tcp_sacktag_one`: one packet's mark and the counts that go with it. */
function tcpSacktagOne(tp: TcpSock, skb: SkBuff, dup: boolean, state: SacktagState): void {
  const sacked = skb.cb2
  const pcount = tcpSkbPcount(skb)
  if (dup && (sacked & TCPCB_RETRANS) !== 0) {
    if (tp.undoMarker !== 0 && tp.undoRetrans > 0 && after(skb.cb1, tp.undoMarker))
      tp.undoRetrans = Math.max(0, tp.undoRetrans - pcount)
    if ((sacked & TCPCB_SACKED_ACKED) !== 0 && before(skb.cb0, state.reord)) state.reord = skb.cb0
  }
  if (!after(skb.cb1, tp.sndUna)) return
  if ((sacked & TCPCB_SACKED_ACKED) === 0) {
    tcpRackAdvance(tp, sacked, skb.cb1, skb.cb4)
    let now = sacked
    if ((sacked & TCPCB_SACKED_RETRANS) !== 0) {
      if ((sacked & TCPCB_LOST) !== 0) {
        now &= ~(TCPCB_LOST | TCPCB_SACKED_RETRANS)
        tp.lostOut -= pcount
        tp.retransOut -= pcount
      }
    } else {
      if ((sacked & TCPCB_RETRANS) === 0) {
        // A packet that was sent once and overtook others: reordering.
        if (before(skb.cb0, tcpHighestSackSeq(tp)) && before(skb.cb0, state.reord)) state.reord = skb.cb0
        if (!after(skb.cb1, tp.highSeq)) state.flag |= FLAG_ORIG_SACK_ACKED
        if (!state.haveSackt) state.firstSackt = skb.cb4
        state.haveSackt = true
        state.lastSackt = skb.cb4
      }
      if ((sacked & TCPCB_LOST) !== 0) {
        now &= ~TCPCB_LOST
        tp.lostOut -= pcount
      }
    }
    skb.cb2 = now | TCPCB_SACKED_ACKED
    state.flag |= FLAG_DATA_SACKED
    tp.sackedOut += pcount
    state.sackDelivered += pcount
  }
  if (dup && (skb.cb2 & TCPCB_SACKED_RETRANS) !== 0) {
    skb.cb2 &= ~TCPCB_SACKED_RETRANS
    tp.retransOut -= pcount
  }
}

/** Models `tcp_match_skb_to_sack` with its split of a packet that a block covers in part. @returns covered. */
function matchSkbToSack(cpu: Cpu, sk: Sock, skb: SkBuff, start: number, end: number): boolean {
  if (!after(start, skb.cb0) && !before(end, skb.cb1)) return true
  if (tcpSkbPcount(skb) <= 1 || !after(skb.cb1, start)) return false
  const mss = tcpSkbMss(skb)
  const inside = !after(start, skb.cb0)
  let len = inside ? (end - skb.cb0) | 0 : (start - skb.cb0) | 0
  if (len < mss) len = mss
  // Whole segments only: a receiver SACKs what it received.
  if (len > mss) {
    const whole = Math.floor(len / mss) * mss
    if (whole < len && inside) len = whole
    else if (whole < len) len = whole + mss
  }
  if (len >= skb.len && !inside) return false
  if (len < skb.len && tcpFragmentRtx(cpu, sk, skb, len, mss, tcpSk(sk).env.mem.gfp.GFP_ATOMIC as Gfp) !== 0)
    return false
  return inside
}

/** Models `tcp_sacktag_walk` over one block. */
function sacktagWalk(
  cpu: Cpu,
  sk: Sock,
  tp: TcpSock,
  start: number,
  end: number,
  dup: boolean,
  state: SacktagState,
): void {
  const { skbs } = tp.env.skbs
  let skb = skbPeek(tp.rtxQueue)
  while (skb !== null && before(skb.cb0, end)) {
    if (after(skb.cb1, start) && matchSkbToSack(cpu, sk, skb, start, end)) {
      tcpSacktagOne(tp, skb, dup, state)
      tcpRateSkbDelivered(tp, skb, tp.env.rs)
      if (tp.highestSack !== 0 && !before(skb.cb0, skbs[tp.highestSack]!.cb0)) tp.highestSack = skb.next
    }
    skb = skb.next === 0 ? null : skbs[skb.next]!
  }
}

/**
 * Models `tcp_sacktag_write_queue` (net/ipv4/tcp_input.c).
 *
 * @returns flags; the rest is in `state`.
 */
export function tcpSacktagWriteQueue(cpu: Cpu, sk: Sock, skb: SkBuff, priorUna: number, state: SacktagState): number {
  const tp = tcpSk(sk)
  const u8 = skb.env.u8
  const at = ((skb.head + skb.transportHeader) >>> 0) + tcpSackOffset(skb)
  const count = Math.min((u8[at + 1]! - 2) >> 3, TCP_NUM_SACKS)
  const sp = state.blocks
  for (let i = 0; i < 2 * count; i++) sp[i] = be32(u8, at + 2 + 4 * i)
  state.reord = tp.sndNxt
  state.flag = 0
  if (tp.sackedOut === 0) {
    const first = skbPeek(tp.rtxQueue)
    tp.highestSack = first === null ? 0 : first.id
  }
  const dsack = tcpCheckDsack(sk, tp, skb.cb3, sp, count, priorUna, state)
  // Nothing in flight, or older than a window: only the duplicate report counts.
  if (!before(skb.cb3, (priorUna - tp.maxWindow) | 0) && tp.packetsOut !== 0) {
    for (let i = 0; i < count; i++) {
      const start = sp[2 * i]!
      const end = sp[2 * i + 1]!
      const dup = dsack && i === 0
      if (!sackblockValid(tp, dup, start, end)) {
        if (dup) incStats(sk, tp.undoMarker === 0 ? MIB.TCPDSACKIgnoredNoUndo : MIB.TCPDSACKIgnoredOld)
        else if (after(end, tp.sndUna) || skb.cb3 === tp.sndUna) incStats(sk, MIB.TCPSACKDiscard)
        continue
      }
      sacktagWalk(cpu, sk, tp, start, end, dup, state)
    }
    if (tp.caState !== TCP_CA_LOSS || tp.undoMarker !== 0) tcpCheckSackReordering(sk, state.reord, false)
  }
  return state.flag
}

/** Models `tcp_check_sack_reordering`. */
export function tcpCheckSackReordering(sk: Sock, lowSeq: number, ts: boolean): void {
  const tp = tcpSk(sk)
  const fack = tcpHighestSackSeq(tp)
  if (!before(lowSeq, fack)) return
  const metric = (fack - lowSeq) >>> 0
  if (metric > tp.reordering * tp.mssCache && tp.mssCache !== 0)
    tp.reordering = Math.min(Math.ceil(metric / tp.mssCache), tp.ctl.maxReordering[0]!)
  tp.reordSeen++
  incStats(sk, ts ? MIB.TCPTSReorder : MIB.TCPSACKReorder)
}

// A peer without SACK: duplicate ACKs stand for packets that arrived.

/** Models `tcp_limit_reno_sacked`. @returns true when it had to. */
function limitRenoSacked(tp: TcpSock): boolean {
  const holes = Math.min(Math.max(tp.lostOut, 1), tp.packetsOut)
  if (tp.sackedOut + holes <= tp.packetsOut) return false
  tp.sackedOut = tp.packetsOut - holes
  return true
}

/** Models `tcp_add_reno_sack`. */
export function tcpAddRenoSack(sk: Sock, dupacks: number): void {
  if (dupacks === 0) return
  const tp = tcpSk(sk)
  const prior = tp.sackedOut
  tp.sackedOut += dupacks
  if (limitRenoSacked(tp)) {
    tp.reordering = Math.min(tp.packetsOut + dupacks, tp.ctl.maxReordering[0]!)
    tp.reordSeen++
    incStats(sk, MIB.TCPRenoReorder)
  }
  const delivered = tp.sackedOut - prior
  if (delivered > 0) tp.delivered += delivered
}

/** Models `tcp_remove_reno_sacks`. */
export function tcpRemoveRenoSacks(tp: TcpSock, acked: number): void {
  if (acked > 0) {
    tp.delivered += Math.max(acked - tp.sackedOut, 1)
    if (acked - 1 >= tp.sackedOut) tp.sackedOut = 0
    else tp.sackedOut -= acked - 1
  }
  limitRenoSacked(tp)
}

/** Models `tcp_reset_reno_sack`. */
export function tcpResetRenoSack(tp: TcpSock): void {
  if (!tcpIsSack(tp)) tp.sackedOut = 0
}
