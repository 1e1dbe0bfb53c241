# needs: expect bash
cat >talk.exp <<'EOF'
log_user 0
set timeout 30
spawn bash --norc --noprofile --noediting
expect -re {[$#] $}
send "PS1='<p>'\r"
expect -re {\n.*<p>}
send "read -s -p 'Password: ' x; echo; echo got \${#x}\r"
expect -re {\nPassword: |Password: $}
send "secret\r"
expect -re {got ([0-9]+)}
puts "length $expect_out(1,string)"
send "stty -a | grep -o 'speed \[0-9\]*'\r"
expect -re {speed (\d+)} { puts "speed $expect_out(1,string)" }
send "sleep 100\r"
sleep 0.3
send "\003"
expect "<p>"
send "exit 5\r"
expect eof
puts "status [lindex [wait] 3]"
spawn sh -c {trap 'echo winch' WINCH; echo ready; while :; do sleep 0.05; done}
expect ready
stty rows 40 columns 100 < $spawn_out(slave,name)
expect winch
exec kill -TERM [exp_pid]
expect eof
puts [lrange [wait] 4 5]
spawn -noecho cat -A
stty raw -echo < $spawn_out(slave,name)
send "a\001b\n"
expect -re {a.*\$} { puts $expect_out(0,string) }
close
wait
for {set i 0} {$i < 10} {incr i} { spawn true; expect eof; lappend all [lindex [wait] 3] }
puts $all
set timeout 1
spawn sleep 100
expect { never { puts never } timeout { puts timeout } }
exec kill -9 [exp_pid]
expect eof
puts [lrange [wait] 4 5]
EOF
expect -f talk.exp; echo "expect $?"; rm talk.exp
script -qec 'tty | tr -d 0-9; echo in script; exit 7' /dev/null </dev/null | tr -d '\r'; echo "script ${PIPESTATUS[0]}"
