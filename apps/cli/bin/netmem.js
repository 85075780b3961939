#!/usr/bin/env node
import { existsSync } from 'node:fs'

const bundle = new URL('../dist/index.js', import.meta.url)
if (existsSync(bundle)) {
  const { main } = await import(bundle.href)
  await main(process.argv)
} else {
  process.stderr.write('netmem: not built yet; "npm start" or "npm run build" in the repository builds it\n')
  process.exitCode = 2
}
