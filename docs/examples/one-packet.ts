import { kernelProfile } from '@netmem/base'
import { bootKernel, Calls } from '@netmem/kernel-model'
import { AF_INET, SOCK_DGRAM, SockAddr } from '@netmem/sockmem'

const kernel = bootKernel({ profile: kernelProfile('linux-6.18-x86_64'), cpus: 1 })
const calls = new Calls(kernel.spawn())
const address = new SockAddr()
address.family = AF_INET
address.addr = 0x7f000001
address.port = 5000
const rx = calls.socket(AF_INET, SOCK_DGRAM)
calls.bind(rx, address)
const tx = calls.socket(AF_INET, SOCK_DGRAM)
calls.connect(tx, address)

// Every allocation and every free has a tracepoint; addresses are places in the machine's memory.
const life: string[] = []
const hex = (address: number): string => `0x${(address >>> 0).toString(16)}`
kernel.trace.kmemCacheAlloc = (_cpu, site, address, cache) => life.push(`${site} takes ${hex(address)} from ${cache}`)
kernel.trace.kfree = (_cpu, site, address) => life.push(`${site} gives ${hex(address)} back`)

calls.send(tx, 100)
calls.recv(rx, 100)

// Two objects: the descriptor (struct sk_buff), and the head that holds headers and payload. The reader gives the head back;
// the descriptor stays in the processor's own cache, for the next packet that its network card brings.
const [descriptor, head, back] = life as [string, string, string]
if (life.length !== 3) throw new Error(life.join('\n'))
if (!/^__alloc_skb takes 0x[0-9a-f]+ from skbuff_head_cache$/.test(descriptor)) throw new Error(descriptor)
if (!/^kmalloc_reserve takes 0x[0-9a-f]+ from skbuff_small_head$/.test(head)) throw new Error(head)
if (back !== `skb_release_data gives ${head.split(' ')[2]} back`) throw new Error(back)
