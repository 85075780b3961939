import { kernelProfiles } from '@netmem/base'
import { expect, it } from 'vitest'
import { bootLimits } from './boot-limits.js'

it('gives the triples of the recorded machines from their free buffer pages', () => {
  // 383867 pages of limit are 16 times as many free ones; the remainder is not to be seen in tcp_mem.
  const reference = kernelProfiles['linux-6.18-x86_64'].sysctl
  const limits = bootLimits(383867 * 16 + 5, 32 << 20, 6171021)
  expect(limits['net.ipv4.tcp_mem']).toBe(reference['net.ipv4.tcp_mem'])
  expect(limits['net.ipv4.tcp_rmem']).toBe(reference['net.ipv4.tcp_rmem'])
  expect(limits['net.ipv4.tcp_wmem']).toBe(reference['net.ipv4.tcp_wmem'])
  expect(limits['net.ipv4.udp_mem']).toBe(reference['net.ipv4.udp_mem'])
  expect(limits['net.ipv4.tcp_max_orphans']).toBe(reference['net.ipv4.tcp_max_orphans'])
  const second = kernelProfiles['linux-6.1-x86_64'].sysctl
  const small = bootLimits(121804 * 8 + 4, 6 << 20, 981000)
  expect(small['net.ipv4.udp_mem']).toBe(second['net.ipv4.udp_mem'])
  expect(small['net.ipv4.tcp_mem']).toBe(second['net.ipv4.tcp_mem'])
})

it('never goes below 128 pages on a tiny machine', () => {
  expect(bootLimits(100, 32 << 20, 100)['net.ipv4.tcp_mem']).toBe('96\t128\t192')
})
