/**
 * The numbers behind /proc/sys as the code that obeys them sees them. Every sysctl is one small
 * `Float64Array` (a triple such as `net.ipv4.tcp_rmem` has three elements) that lives as long as its
 * machine or namespace; readers keep the array, the sysctl files of the kernel model write into it.
 * Parsing and range checks are the files' business.
 */
import type { KernelProfile } from '@netmem/base'

export class Sysctls {
  private readonly values = new Map<string, Float64Array>()
  private readonly texts = new Map<string, string>()

  /** @param parent where names that this table does not hold are looked up: the machine's table, for a namespace. */
  constructor(
    readonly profile: KernelProfile,
    readonly parent: Sysctls | null = null,
  ) {}

  /**
   * @param name as in `/proc/sys` with dots, such as `net.core.rmem_max`.
   * @param fallback the value when the profile does not mention it.
   * @returns the storage itself, the same array each time, first filled from the profile's defaults.
   */
  numbers(name: string, fallback: readonly number[]): Float64Array {
    const inherited = this.parent?.values.get(name)
    if (inherited !== undefined) return inherited
    let found = this.values.get(name)
    if (found === undefined) {
      const text = this.profile.sysctl[name]
      const list = text === undefined ? fallback : text.split(/\s+/).map(Number)
      found = Float64Array.from(list)
      this.values.set(name, found)
    }
    return found
  }

  /** @returns the storage of a sysctl that some module asked for, or null when none did. */
  find(name: string): Float64Array | null {
    return this.values.get(name) ?? this.parent?.find(name) ?? null
  }

  /** Names that modules asked for here, in that order. */
  names(): string[] {
    return [...this.values.keys()]
  }

  /** A sysctl that is a word, such as `net.ipv4.tcp_congestion_control`. */
  text(name: string): string {
    return this.texts.get(name) ?? this.parent?.texts.get(name) ?? this.profile.sysctl[name] ?? ''
  }

  setText(name: string, value: string): void {
    this.texts.set(name, value)
  }
}
