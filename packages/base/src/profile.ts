/**
 * A kernel as data: structure sizes, slab geometry, page size, HZ, default sysctls and the named feature
 * switches by which kernels differ in behaviour. Code asks the profile; it never compares versions.
 */
import linux61 from './profiles/linux-6.1-x86_64.json' with { type: 'json' }
import linux618 from './profiles/linux-6.18-x86_64.json' with { type: 'json' }

/** One structure: its size and the offsets and sizes of the members that matter, in bytes. */
export interface StructLayout {
  readonly size: number
  readonly offsets: Readonly<Record<string, number>>
  readonly sizes: Readonly<Record<string, number>>
}

/**
 * What kernels do differently, by name. Each is documented where it is used; add one here, in both
 * built-in profiles and in the validator's expectations by adding it to this interface's sample.
 */
export type KernelFeatures = Readonly<typeof linux618.features>

/** Values of the `__GFP_` bits (0: this kernel has none) and `GFP_` masks, and the order in which tracepoints print them. */
export interface GfpTable {
  readonly bits: Readonly<Record<string, number>>
  readonly masks: Readonly<Record<string, number>>
  readonly text: readonly string[]
}

/** A slab cache as `kmem_cache_create` is asked for it, sizes in bytes. */
export interface BootCache {
  readonly name: string
  readonly size: number
  readonly align: number
  readonly hwcache_align: boolean
  readonly account: boolean
}

/** Models nothing in the kernel: the description of one kernel build. See `profiles/*.json`. */
export interface KernelProfile {
  readonly schema: 'netmem-profile/1'
  readonly name: string
  readonly release: string
  readonly machine: string
  readonly page_size: number
  readonly nr_cpus: number
  readonly HZ: number
  readonly SMP_CACHE_BYTES: number
  readonly MAX_SKB_FRAGS: number
  readonly features: KernelFeatures
  readonly gfp: GfpTable
  /** Slab caches made before networking starts that network caches merge with. */
  readonly boot_caches: readonly BootCache[]
  readonly config: Readonly<Record<string, string>>
  readonly derived: Readonly<Record<string, number>>
  readonly structs: Readonly<Record<string, StructLayout>>
  readonly kmalloc: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly slab_caches: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly slab_sysfs: Readonly<Record<string, Readonly<Record<string, number | string>>>>
  readonly sysctl: Readonly<Record<string, string>>
}

type Json = Record<string, unknown>

const isRecord = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * Checks a parsed JSON document and returns it as a profile.
 *
 * @throws RangeError naming the first member that is missing or of the wrong kind, and what would be right.
 */
export function parseKernelProfile(json: unknown): KernelProfile {
  if (!isRecord(json)) throw new RangeError('profile: expected an object')
  const bad = (path: string, want: string): never => {
    throw new RangeError(`profile ${String(json.name ?? '?')}: ${path} must be ${want}`)
  }
  if (json.schema !== 'netmem-profile/1') bad('schema', '"netmem-profile/1"')
  for (const key of ['name', 'release', 'machine'])
    if (typeof json[key] !== 'string' || json[key] === '') bad(key, 'a non-empty text')
  for (const key of ['page_size', 'nr_cpus', 'HZ', 'SMP_CACHE_BYTES', 'MAX_SKB_FRAGS'])
    if (!Number.isInteger(json[key]) || (json[key] as number) < 1) bad(key, 'a positive integer')
  if (((json.page_size as number) & ((json.page_size as number) - 1)) !== 0) bad('page_size', 'a power of two')
  if ((json.MAX_SKB_FRAGS as number) < 17 || (json.MAX_SKB_FRAGS as number) > 45) bad('MAX_SKB_FRAGS', 'from 17 to 45')
  for (const key of [
    'config',
    'derived',
    'structs',
    'kmalloc',
    'slab_caches',
    'slab_sysfs',
    'sysctl',
    'features',
    'gfp',
  ])
    if (!isRecord(json[key])) bad(key, 'an object')
  for (const [name, value] of Object.entries(linux618.features))
    if (typeof (json.features as Json)[name] !== typeof value) bad(`features.${name}`, `a ${typeof value}`)
  for (const key of ['bits', 'masks'] as const) {
    const table = (json.gfp as Json)[key]
    if (!isRecord(table)) bad(`gfp.${key}`, 'an object')
    for (const name of Object.keys(linux618.gfp[key]))
      if (!Number.isInteger((table as Json)[name])) bad(`gfp.${key}.${name}`, 'an integer (0 when the kernel has none)')
  }
  if (!Array.isArray((json.gfp as Json).text)) bad('gfp.text', 'a list of names')
  if (!Array.isArray(json.boot_caches)) bad('boot_caches', 'a list of caches')
  for (const [name, layout] of Object.entries(json.structs as Json))
    if (!isRecord(layout) || !Number.isInteger(layout.size)) bad(`structs.${name}.size`, 'an integer number of bytes')
  for (const name of ['sk_buff', 'sk_buff_fclones', 'skb_shared_info'])
    if (!isRecord((json.structs as Json)[name])) bad(`structs.${name}`, 'present')
  for (const [name, text] of Object.entries(json.sysctl as Json))
    if (typeof text !== 'string') bad(`sysctl["${name}"]`, 'text as in /proc/sys')
  return json as unknown as KernelProfile
}

/** The reference kernel, 6.18, and the second one, 6.1. */
export const kernelProfiles: Readonly<Record<'linux-6.18-x86_64' | 'linux-6.1-x86_64', KernelProfile>> = {
  'linux-6.18-x86_64': parseKernelProfile(linux618),
  'linux-6.1-x86_64': parseKernelProfile(linux61),
}

/** @throws RangeError when there is no built-in profile of that name; the message lists the names there are. */
export function kernelProfile(name: string): KernelProfile {
  const profile = (kernelProfiles as Record<string, KernelProfile>)[name]
  if (profile === undefined)
    throw new RangeError(`no kernel profile "${name}"; there are ${Object.keys(kernelProfiles).join(', ')}`)
  return profile
}
