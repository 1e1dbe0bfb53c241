# fish completion for runsc: asks the binary itself for its commands and containers.
function __runsc_commands
    runsc help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) *\(.*\)/\1\t\2/p'
end
complete -c runsc -f -n __fish_use_subcommand -a '(__runsc_commands)'
complete -c runsc -n '__fish_seen_subcommand_from do' -a '(__fish_complete_subcommand)'
complete -c runsc -f -n 'not __fish_seen_subcommand_from do' -n 'not __fish_use_subcommand' -a '(runsc list -q 2>/dev/null)'
