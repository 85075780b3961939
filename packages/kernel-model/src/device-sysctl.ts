/** Carries the device layer's sysctls from the files to the numbers that its hot paths read. */
import type { Sysctls } from '@netmem/sockmem'
import type { NetDevs } from '@netmem/virtual-nic'

/** Makes the storage of the device layer's sysctls known before anybody reads the files. */
export function netDevSysctlApply(devs: NetDevs, machine: Sysctls): void {
  const value = (name: string, fallback: number): number => machine.numbers(name, [fallback])[0]!
  const { sysctl } = devs
  const weight = value('net.core.dev_weight', 64)
  sysctl.maxBacklog = value('net.core.netdev_max_backlog', 1000)
  sysctl.netdevBudget = value('net.core.netdev_budget', 300)
  sysctl.netdevBudgetUsecs = value('net.core.netdev_budget_usecs', 8000)
  sysctl.devRxWeight = weight * value('net.core.dev_weight_rx_bias', 1)
  sysctl.devTxWeight = weight * value('net.core.dev_weight_tx_bias', 1)
  sysctl.groNormalBatch = value('net.core.gro_normal_batch', 8)
  sysctl.busyPoll = value('net.core.busy_poll', 0)
  sysctl.busyRead = value('net.core.busy_read', 0)
}
