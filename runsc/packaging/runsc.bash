# bash completion for runsc: asks the binary itself for its commands and flags.
_runsc() {
  local word=${COMP_WORDS[COMP_CWORD]} i command=
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} != -* ]] && { command=${COMP_WORDS[i]}; break; }
  done
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$(runsc $command --help 2>/dev/null | grep -o -- '^  --[a-z0-9-]*')" -- "$word"))
  elif [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "$(runsc help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')" -- "$word"))
  elif [[ $command == do || $command == spec ]]; then
    COMPREPLY=($(compgen -c -- "$word") $(compgen -f -- "$word"))
  else
    COMPREPLY=($(compgen -W "$(runsc list -q 2>/dev/null)" -- "$word"))
  fi
}
complete -F _runsc runsc
