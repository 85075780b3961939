/** `netmem completion`: scripts for shells, made from the commands themselves, so that none is forgotten. */
import { Argument, type Command } from 'commander'
import { examples } from './examples.js'

interface Known {
  /** Words that lead to the command: '' for netmem itself, 'size tcp_mem' for one below another. */
  readonly path: string
  readonly commands: readonly string[]
  readonly options: readonly string[]
}

function known(command: Command, path = ''): Known[] {
  const options = [...command.options.flatMap(({ short, long }) => [short, long]), '--help'].filter(
    (flag): flag is string => typeof flag === 'string',
  )
  const below = command.commands.filter((child) => child.name() !== 'help')
  return [
    { path, commands: below.map((child) => child.name()), options: [...new Set(options)] },
    ...below.flatMap((child) => known(child, `${path} ${child.name()}`.trim())),
  ]
}

const bash = (all: readonly Known[]): string => `# netmem completion bash > /etc/bash_completion.d/netmem
_netmem() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$word" in
${all
  .filter(({ path }) => path !== '')
  .map(({ path }) => `      "${path}") path="${path}" ;;`)
  .join('\n')}
    esac
  done
  local commands="" options=""
  case "$path" in
${all.map(({ path, commands, options }) => `    "${path}") commands="${commands.join(' ')}"; options="${options.join(' ')}" ;;`).join('\n')}
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [[ -n "$commands" ]]; then
    COMPREPLY=($(compgen -W "$commands" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -o filenames -F _netmem netmem
`

const zsh = (all: readonly Known[]): string => `#compdef netmem
# netmem completion zsh > "\${fpath[1]}/_netmem"
autoload -U +X bashcompinit && bashcompinit
${bash(all)}`

const fish = (all: readonly Known[]): string =>
  `# netmem completion fish > ~/.config/fish/completions/netmem.fish\n${all
    .flatMap(({ path, commands, options }) => {
      const words = path.split(' ').filter((word) => word !== '')
      const here =
        words.length === 0
          ? '__fish_use_subcommand'
          : words.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ')
      return [
        ...commands.map((command) => `complete -c netmem -n '${here}' -f -a ${command}`),
        ...options.map(
          (option) =>
            `complete -c netmem -n '${here}' ${option.startsWith('--') ? '-l' : '-s'} ${option.replace(/^-+/, '')}`,
        ),
      ]
    })
    .join('\n')}\n`

const shells: Readonly<Record<string, (all: readonly Known[]) => string>> = { bash, zsh, fish }

/** @returns the script for a shell of `Object.keys(shells)`. */
export const completionScript = (shell: string, netmem: Command): string => shells[shell]!(known(netmem))

/** Call last: it completes the commands that are there. */
export function addCompletionCommand(netmem: Command): void {
  netmem
    .command('completion')
    .summary('print a completion script for a shell')
    .description('Prints a script that completes commands and options of netmem in bash, zsh or fish.')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(shells)))
    .addHelpText(
      'after',
      examples(['netmem completion bash > /etc/bash_completion.d/netmem', 'source <(netmem completion bash)']),
    )
    .action((shell: string) => {
      process.stdout.write(completionScript(shell, netmem))
    })
}
