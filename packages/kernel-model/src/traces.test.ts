/**
 * Recordings of real kernels, replayed: every answer must be the kernel's, every package's books must balance
 * after every step, and nothing may be left at the end. Each recording's own sentence is its test's name.
 */
import crypto from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { tlsCryptoFromNode } from '@netmem/zerocopy'
import { describe, expect, it } from 'vitest'
import { playTrace } from './player/play-trace.js'
import { assertQuiescent, auditKernel, trackSteps } from './testing.js'

const folder = fileURLToPath(new URL('./fixtures/traces/', import.meta.url))
// An audit walks the whole machine: after each step of an ordinary trace, after every n-th of a long one.
const AUDITS_PER_TRACE = 40

for (const kernelName of readdirSync(folder))
  describe(`${kernelName} answers`, () => {
    for (const file of readdirSync(`${folder}${kernelName}`)) {
      const trace = JSON.parse(readFileSync(`${folder}${kernelName}/${file}`, 'utf8'))
      it(`${trace.name}: ${trace.about}`, () => {
        let setStep: (step: number) => void = () => {}
        const stride = Math.ceil(trace.steps.length / AUDITS_PER_TRACE)
        const report = playTrace(trace, {
          crypto: tlsCryptoFromNode(crypto),
          beforeFirst: (kernel) => {
            setStep = trackSteps(kernel)
          },
          afterStep: (kernel, step) => {
            if (step % stride === 0) auditKernel(kernel)
            setStep(step + 1)
          },
          afterClose: (kernel) => {
            assertQuiescent(kernel)
            auditKernel(kernel)
          },
        })
        expect(report.mismatches).toEqual([])
        expect(report.unsupported).toEqual([])
        expect(report.matched).toBe(report.checks)
      })
    }
  })
