import { ERRNO, kernelProfiles } from '@netmem/base'
import { Sysctls } from '@netmem/sockmem'
import { describe, expect, it } from 'vitest'
import { SysctlFiles } from './files.js'

const EINVAL = -ERRNO.EINVAL

function machine(name: keyof typeof kernelProfiles) {
  const profile = kernelProfiles[name]
  const files = new SysctlFiles(profile)
  const shared = new Sysctls(profile)
  files.prime(shared)
  const nets = [new Sysctls(profile, shared), new Sysctls(profile, shared)] as const
  return {
    files,
    write: (key: string, text: string, net = 0) => files.write(shared, nets[net]!, key, text),
    read: (key: string, net = 0) => files.read(shared, nets[net]!, key),
  }
}

describe('/proc/sys', () => {
  it('shows every memory sysctl of the profile as the kernel shows it', () => {
    for (const name of ['linux-6.18-x86_64', 'linux-6.1-x86_64'] as const) {
      const { files, read } = machine(name)
      for (const key of files.names()) expect(read(key), key).toBe(kernelProfiles[name].sysctl[key] ?? read(key))
    }
  })

  it('keeps what belongs to a namespace in the namespace, and the rest in one place', () => {
    const { write, read } = machine('linux-6.18-x86_64')
    expect(write('net.ipv4.udp_rmem_min', '1')).toBe(0)
    expect(read('net.ipv4.udp_rmem_min', 1)).toBe('4096')
    expect(write('net.core.rmem_max', '5000')).toBe(0)
    expect(read('net.core.rmem_max', 1)).toBe('5000')
  })

  it('has one optmem_max per machine, of any sign, where the kernel has not moved it into the namespace', () => {
    const { write, read } = machine('linux-6.1-x86_64')
    expect(write('net.core.optmem_max', '-1')).toBe(0)
    expect(read('net.core.optmem_max', 1)).toBe('-1')
    expect(machine('linux-6.18-x86_64').write('net.core.optmem_max', '-1')).toBe(EINVAL)
  })

  it('shows numbers of 64 bits as they were written, beyond what a double holds', () => {
    const { write, read } = machine('linux-6.18-x86_64')
    expect(write('net.ipv4.tcp_mem', '100000 200000 18446744073709551615')).toBe(0)
    expect(read('net.ipv4.tcp_mem')).toBe('100000\t200000\t18446744073709551615')
    expect(write('net.ipv4.tcp_mem', '1 2 3')).toBe(0)
    expect(read('net.ipv4.tcp_mem')).toBe('1\t2\t3')
  })

  it('refuses what is below the least socket buffer, in steps that store what came before', () => {
    const { write, read } = machine('linux-6.1-x86_64')
    expect(write('net.core.rmem_max', '2303')).toBe(EINVAL)
    expect(write('net.core.wmem_max', '4607')).toBe(EINVAL)
    expect(write('net.ipv4.tcp_rmem', '4096 abc 5000')).toBe(EINVAL)
    expect(read('net.ipv4.tcp_rmem')).toBe('4096\t131072\t6291456')
    expect(write('net.ipv4.tcp_rmem', '1 2 3')).toBe(EINVAL)
  })

  it('answers ENOENT for names that this kernel has not', () => {
    const { write, read } = machine('linux-6.18-x86_64')
    expect(write('net.core.no_such_thing', '1')).toBe(-ERRNO.ENOENT)
    expect(read('net.core.no_such_thing')).toBe(null)
  })
})
