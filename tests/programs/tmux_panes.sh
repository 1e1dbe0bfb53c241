# needs: tmux
# A server with its socket in this folder: windows, panes, keys typed into a shell, copies of what they
# show, a client that is attached, and the end of it all.
export TMUX_TMPDIR=$PWD SHELL=/bin/sh; unset TMUX
t() { tmux -f /dev/null "$@"; }
until_shows() { for i in $(seq 500); do t capture-pane -p -t "$1" | grep -q "$2" && return; sleep 0.02; done; echo "$1 never shows $2"; }
t new-session -d -s s -n first -x 60 -y 12 'PS1="$ " sh'; echo "new $?"
until_shows s:0.0 '^\$'
t send-keys -t s:0.0 'echo $((6*7)) answers' Enter; until_shows s:0.0 '^42 answers'
t send-keys -t s:0.0 'stty size; sleep 1000' Enter; until_shows s:0.0 '^12 60'
# A shell that is about to start a program may miss the key.
until [ "$(t display-message -p -t s:0.0 '#{pane_current_command}')" = sleep ]; do sleep 0.01; done
t send-keys -t s:0.0 C-c; t send-keys -t s:0.0 'echo after $?' Enter; until_shows s:0.0 '^after 130'
t split-window -h -t s:0 'PS1="> " sh'; until_shows s:0.1 '^>'
t send-keys -t s:0.1 'stty size' Enter; until_shows s:0.1 '^12 29'
t list-panes -t s:0 -F '#{pane_index} #{pane_width}x#{pane_height} #{pane_current_command}'
t resize-pane -t s:0.1 -x 20
t send-keys -t s:0.1 'until [ "$(stty size)" = "12 20" ]; do sleep 0.01; done; stty size' Enter; until_shows s:0.1 '^12 20'
t new-window -t s:1 -n second 'cat'; t send-keys -t s:1 'typed' Enter; until_shows s:1 typed
t capture-pane -p -t s:1 | head -2
t list-windows -t s -F '#{window_index} #{window_name} #{window_panes}'
t set-buffer 'from the buffer'; t paste-buffer -t s:1; until_shows s:1 'from the buffer'
t wait-for -S done; t wait-for done; echo "waited $?"
t run-shell 'echo from the server' | head -1
t kill-pane -t s:0.1; t list-panes -t s:0 | wc -l
t has-session -t nobody 2>/dev/null; echo "has $?"
t kill-server; echo "kill $?"; for i in $(seq 500); do t has-session 2>/dev/null || break; sleep 0.02; done
rm -rf tmux-*
