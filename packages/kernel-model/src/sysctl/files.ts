/**
 * /proc/sys: which names there are on this kernel, what each accepts, and whether a namespace has its own.
 * The numbers live in the packages that obey them (`Sysctls`); here is only what a reader or writer meets.
 */
import { ERRNO, type KernelProfile } from '@netmem/base'
import type { Sysctls } from '@netmem/sockmem'
import { procWriteVector } from './parse.js'
import { type SysctlFile, sysctlRows } from './tables.js'
import { congestionControls, TCP_CONGESTION_CONTROL, writeWord } from './words.js'

/** Models the entries of `netns_core_table`, `net_core_table`, `ipv4_net_table`, `ipv4_table` and `vm_table` that touch memory. */
export class SysctlFiles {
  private readonly files = new Map<string, SysctlFile>()
  /** Numbers beyond 2^53 keep the text that was written, as a double cannot hold them: by storage and slot. */
  private readonly exact = new WeakMap<Float64Array, (string | undefined)[]>()

  constructor(readonly profile: KernelProfile) {
    for (const [name, file] of sysctlRows(profile))
      if (file.defaults.length > 0 || profile.sysctl[name] !== undefined) this.files.set(name, file)
  }

  /** Makes the storage of all values that namespaces share, so that no namespace gets one of its own by asking first. */
  prime(machine: Sysctls): void {
    for (const [name, file] of this.files) if (!file.perNet) machine.numbers(name, file.defaults)
  }

  /**
   * @param initial whether the reader is in the initial namespace; others do not see what belongs to the machine,
   * but for the four buffer sizes.
   * @returns all names, in the order of the tables.
   */
  names(initial = true): string[] {
    const numbers = [...this.files.keys()].filter((name) => initial || this.isVisible(name))
    return [...numbers, ...congestionControls(this.profile)]
  }

  private isVisible(name: string): boolean {
    const file = this.files.get(name)!
    return file.perNet || file.readOnlyInChildren === true || !name.startsWith('net.')
  }

  /** @returns whether the file may be opened for writing in a namespace that is not the initial one. */
  isWritableInChildren(name: string): boolean {
    return name === TCP_CONGESTION_CONTROL || this.isPerNet(name)
  }

  /** @returns whether each network namespace has its own value of this name. */
  isPerNet(name: string): boolean {
    return this.files.get(name)?.perNet ?? false
  }

  private storage(name: string, file: SysctlFile, machine: Sysctls, net: Sysctls): Float64Array {
    return (file.perNet ? net : machine).numbers(name, file.defaults)
  }

  /**
   * Models `proc_sys_write`: one `write(2)` at offset 0.
   *
   * @param machine the values that all namespaces share; `net` those of the writer's own.
   * @param initial whether that is the initial namespace.
   * @returns 0, or -ENOENT, or -EINVAL; numbers before a bad one are stored all the same.
   */
  write(machine: Sysctls, net: Sysctls, name: string, text: string, initial = true): number {
    const file = this.files.get(name)
    if (file === undefined) return writeWord(this.profile, net, initial, name, text)
    const numbers = this.storage(name, file, machine, net)
    const limit = (other: string | undefined): bigint | null =>
      other === undefined ? null : BigInt(this.storage(other, this.files.get(other)!, machine, net)[0]!)
    const range = {
      ...file.range,
      min: limit(file.atLeast) ?? file.range.min,
      max: limit(file.atMost) ?? file.range.max,
    }
    const first = (other: string): number => this.storage(other, this.files.get(other)!, machine, net)[0]!
    if (file.convert !== undefined) return this.writeConverted(file, numbers, text)
    if (file.check !== undefined) return this.writeChecked(file, numbers, text, first)
    const { stepMs } = file
    return procWriteVector(text, file.slots, range, (index, value) => {
      if (stepMs === undefined) this.store(numbers, index, value)
      else numbers[index] = Math.ceil(Number(value) / stepMs) * stepMs
    })
  }

  /** Models handlers that parse into variables of their own, look, and only then store. */
  private writeChecked(file: SysctlFile, numbers: Float64Array, text: string, other: (name: string) => number): number {
    const after = [...numbers]
    const err = procWriteVector(text, file.slots, file.range, (index, value) => {
      after[index] = Number(value)
    })
    if (err < 0) return err
    if (text.length > 0 && !file.check!(after, other)) return -ERRNO.EINVAL
    numbers.set(after)
    return 0
  }

  /** Models `conv` functions that look at a number before they store it. */
  private writeConverted(file: SysctlFile, numbers: Float64Array, text: string): number {
    let refused = false
    const err = procWriteVector(text, file.slots, file.range, (index, value) => {
      const stored = file.convert!(value)
      if (stored === null) refused = true
      else numbers[index] = stored
    })
    return refused ? -ERRNO.EINVAL : err
  }

  private store(numbers: Float64Array, index: number, value: bigint): void {
    numbers[index] = Number(value)
    const exact = this.exact.get(numbers) ?? []
    exact[index] = Number.isSafeInteger(numbers[index]) ? undefined : String(value)
    this.exact.set(numbers, exact)
  }

  /** Models `proc_sys_read`. @returns the value without its last newline, or null when there is no such name. */
  read(machine: Sysctls, net: Sysctls, name: string): string | null {
    const file = this.files.get(name)
    if (file === undefined) return this.profile.sysctl[name] === undefined ? null : net.text(name)
    const numbers = this.storage(name, file, machine, net)
    const exact = this.exact.get(numbers)
    const shown = [...numbers].map((value, index) => {
      const text = exact?.[index]
      return text !== undefined && Number(text) === value ? text : String(value)
    })
    return shown.slice(0, file.slots).join('\t')
  }
}
