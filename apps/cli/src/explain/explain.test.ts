import { describe, expect, it } from 'vitest'
import { explain } from './explain.js'
import type { Finding } from './finding.js'

/** The findings of a text, and one found by its text. */
const of = (text: string, memoryBytes: number | null = null): readonly Finding[] => explain(text, memoryBytes).findings
const one = (text: string, memoryBytes: number | null = null): Finding => {
  const findings = of(text, memoryBytes)
  expect(findings).toHaveLength(1)
  return findings[0]!
}
const words = (found: Finding): string => [...found.means, ...found.next].join(' ')

const SS = `State  Recv-Q Send-Q Local Address:Port Peer Address:Port
ESTAB  0      0      10.0.0.1:443       10.0.0.9:50122
\t skmem:(r0,rb131072,t0,tb87040,f4096,w0,o0,bl0,d0)
ESTAB  210000 0      10.0.0.1:443       10.0.0.8:50133
\t skmem:(r212992,rb212992,t0,tb87040,f0,w1280,o0,bl0,d7)`

describe('explain', () => {
  it('says what the nine numbers of ss -m are, which socket is full, and who holds most', () => {
    const [together, first, second] = of(SS)
    expect(words(together!)).toMatch(/214 kB .*ESTAB 210000 0 10\.0\.0\.1:443 10\.0\.0\.8:50133/)
    expect(first!.level).toBe('fine')
    expect(second!.level).toBe('over')
    for (const name of ['r:', 'rb', 't:', 'tb', 'f:', 'w:', 'o:', 'bl:', 'd:']) expect(words(second!)).toContain(name)
    expect(words(second!)).toMatch(/7 packets were dropped/)
  })

  it('reads mem of sockstat as pages and holds it against tcp_mem, wherever that stands', () => {
    const text = 'TCP: inuse 120 orphan 3 tw 40 alloc 130 mem 22016\nnet.ipv4.tcp_mem = 20000\t22000\t44000\n'
    const [tcp] = of(text)
    expect(words(tcp!)).toMatch(/22 016 pages are 90\.2 MB/)
    expect(tcp!.level).toBe('near')
    expect(words(of('TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 3')[0]!)).toMatch(/sysctl net\.ipv4\.tcp_mem/)
    expect(of('TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 50000\nnet.ipv4.tcp_mem = 20000 22000 44000')[0]!.level).toBe(
      'over',
    )
  })

  it('tells orphans from tcp_mem', () => {
    const text = 'TCP: inuse 1 orphan 8190 tw 0 alloc 1 mem 3\nnet.ipv4.tcp_max_orphans = 8192\n'
    expect(of(text)[0]!.level).toBe('near')
    expect(words(of(text)[0]!)).toMatch(/too many orphaned sockets/)
  })

  it('catches bytes in tcp_mem, and says what was meant', () => {
    const found = one('net.ipv4.tcp_mem = 4096 87380 16777216', 16 * 2 ** 30)
    expect(found.level).toBe('mistake')
    expect(words(found)).toMatch(/pages of 4096 bytes, not bytes/)
    expect(words(found)).toMatch(/1 21 4096/)
    expect(of('MemTotal:       16374528 kB\nnet.ipv4.tcp_mem = 188000 251000 377000')[1]!.level).toBe('fine')
    expect(one('sysctl -w net.ipv4.udp_mem="16777216"').level).toBe('mistake')
    expect(one('net.ipv4.tcp_mem = 9 9 9').level).toBe('note')
    expect(one('net.ipv4.tcp_mem = 9 8 7').level).toBe('mistake')
  })

  it('tells lost from collapsed', () => {
    expect(words(one('TcpExtPruneCalled               12                 0.0'))).toMatch(/nothing is lost/)
    expect(one('TcpExtTCPRcvQDrop 3 0.0').level).toBe('over')
    expect(words(one('UdpRcvbufErrors 9 0.0'))).toMatch(/udp_mem/)
    expect(one('UdpRcvbufErrors 0 0.0').level).toBe('fine')
  })

  it('reads pairs of lines of snmp and netstat, and shows what is not zero', () => {
    const found = of('Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 100 0 7 50 7\n')
    expect(found.map(({ text }) => text)).toEqual(['UdpInDatagrams 100', 'UdpInErrors 7', 'UdpRcvbufErrors 7'])
  })

  it('reads softnet_stat in hexadecimal', () => {
    const row =
      '0000272d 00000010 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000'
    expect(words(one(row))).toMatch(/Processor 1 took in 10 029 packets\..*dropped: 16 /)
    expect(one(row).level).toBe('over')
  })

  it.each([
    ['TCP: out of memory -- consider tuning tcp_mem', /pages .*not in bytes/],
    ['[1.5] TCP: too many orphaned sockets', /not about tcp_mem/],
    ['page_pool_release_retry() stalled pool shutdown: id 5, 4032 inflight 120 sec', /4 032 of its pages/],
    ['page_pool_release_retry() stalled pool shutdown 4032 inflight 120 sec', /16\.5 MB/],
    [
      'swapper/0: page allocation failure: order:0, mode:0x40820(GFP_ATOMIC|__GFP_COMP), nodemask=(null)',
      /min_free_kbytes/,
    ],
    ['virtio swiotlb buffer is full (sz: 4096 bytes), total 32768 (slots), used 100 (slots)', /not next to each other/],
  ])('explains the line of dmesg %j', (text, expected) => {
    const found = one(text)
    expect(found.level).toBe('over')
    expect(words(found)).toMatch(expected)
  })

  it('explains drop reasons by name, and that their numbers move', () => {
    for (const text of ['SOCKET_RCVBUFF', 'SKB_DROP_REASON_SOCKET_RCVBUFF', 'kfree_skb: ... reason: SOCKET_RCVBUFF'])
      expect(words(one(text))).toMatch(/SO_RCVBUF.*\d+ on 6\.1/)
  })

  it('reads slabinfo', () => {
    const row =
      'skbuff_head_cache   1024   1184    256   16    1 : tunables    0    0    0 : slabdata     74     74      0'
    expect(words(one(row))).toMatch(/1 024 objects of 256 bytes .*86\.5 %/)
  })

  it('is not led astray by other text', () => {
    expect(explain('hello\nworld\n\u0000\n', null)).toMatchObject({ lines: 3, recognised: 0, findings: [] })
    expect(explain('', null).findings).toEqual([])
    expect(explain('skmem:(r,rb)\nTCP: inuse x\nTcp: A B\n', null).recognised).toBe(0)
  })
})
