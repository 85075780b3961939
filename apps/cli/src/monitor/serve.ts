/** Prometheus metrics of a machine's network memory over HTTP, and a health check. */
import { createServer, type Server } from 'node:http'
import { Gauge, Registry } from 'prom-client'
import { type Snapshot, WATCHED } from './snapshot.js'

/** @returns a registry whose gauges show a fresh look each time they are collected. */
export function metrics(look: () => Snapshot): Registry {
  const registry = new Registry()
  // One look for all gauges of a scrape: they are collected together.
  let seen: Snapshot | null = null
  const current = (): Snapshot => {
    if (seen === null) {
      seen = look()
      queueMicrotask(() => {
        seen = null
      })
    }
    return seen
  }
  const gauge = <L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    fill: (set: (value: number, of: Record<L, string>) => void, now: Snapshot) => void,
  ): void => {
    new Gauge({
      name: `netmem_${name}`,
      help,
      labelNames: labels,
      registers: [registry],
      collect() {
        this.reset()
        fill((value, of) => (this as Gauge<string>).set(of, value), current())
      },
    })
  }
  gauge('protocol_memory_bytes', 'Memory charged to the sockets of a protocol', ['protocol'], (set, now) => {
    for (const { name, pages } of now.protocols) set(pages * 4096, { protocol: name })
  })
  gauge(
    'protocol_memory_limit_bytes',
    'The three numbers of tcp_mem and udp_mem',
    ['protocol', 'limit'],
    (set, now) => {
      for (const { name, low, pressure, high } of now.protocols) {
        set(low * 4096, { protocol: name, limit: 'low' })
        set(pressure * 4096, { protocol: name, limit: 'pressure' })
        set(high * 4096, { protocol: name, limit: 'high' })
      }
    },
  )
  gauge('sockets', 'Sockets by state', ['kind'], (set, { sockets }) => {
    for (const [kind, count] of Object.entries(sockets)) set(count, { kind })
  })
  gauge('slab_objects', 'Objects of a slab cache', ['cache', 'state'], (set, now) => {
    for (const { name, active, total } of now.slabs) {
      set(active, { cache: name, state: 'active' })
      set(total, { cache: name, state: 'total' })
    }
  })
  gauge('slab_object_bytes', 'Size of an object of a slab cache', ['cache'], (set, now) => {
    for (const { name, objectBytes } of now.slabs) set(objectBytes, { cache: name })
  })
  gauge('softnet', 'Sums of /proc/net/softnet_stat since boot', ['event'], (set, { softnet }) => {
    for (const [event, count] of Object.entries(softnet)) set(count, { event })
  })
  gauge('device_drops', 'Packets a device dropped since boot', ['device', 'counter'], (set, now) => {
    for (const { name, rxDropped, txDropped, rxFifo } of now.devices) {
      set(rxDropped, { device: name, counter: 'rx_dropped' })
      set(txDropped, { device: name, counter: 'tx_dropped' })
      set(rxFifo, { device: name, counter: 'rx_fifo_errors' })
    }
  })
  gauge('counter', 'Counters of drops and pressure since boot, by the names of nstat', ['name'], (set, now) => {
    for (const name of WATCHED) set(now.counters[name] ?? 0, { name })
  })
  return registry
}

/** Listens; the caller closes it. @returns once it listens. */
export function serve(look: () => Snapshot, host: string, port: number): Promise<Server> {
  const registry = metrics(look)
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?')[0]
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end()
      return
    }
    if (path === '/healthz') {
      response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n')
      return
    }
    if (path !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('there are /metrics and /healthz\n')
      return
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}
