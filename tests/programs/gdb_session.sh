# needs: gdb gcc
# fixture: gcc -g -O0 -pthread -o $FIXTURE/debuggee $SRC/debuggee.c
# Addresses and numbers of processes differ; what is compared is what gdb finds out.
run_gdb() {
  gdb -nx -batch -iex 'set debuginfod enabled off' -ex 'set pagination off' -ex 'set confirm off' \
    -ex 'set print thread-events off' "$@" 2>&1 |
    grep -v 'address space randomization\|libthread_db\|Switching to\|^\[Attaching\|^Using host' |
    sed -E 's/0x[0-9a-f]+/ADDR/g; s/(LWP|process|Process) [0-9]+/\1 N/g; s/ *$//; s/  +/ /g; s#/[^ ]*/##g'
}
echo '--- break, step, finish, backtrace'
run_gdb -ex 'break Square' -ex run -ex 'print x' -ex 'backtrace 2' -ex next -ex next -ex 'print total' \
  -ex delete -ex finish -ex 'info threads' -ex continue $FIXTURE/debuggee | grep -v '^\*\? *[12] *Thread'
echo '--- hardware and software watchpoints'
run_gdb -ex 'break Square if x == 1' -ex run -ex delete -ex 'watch total' -ex continue -ex continue \
  -ex delete -ex continue $FIXTURE/debuggee
run_gdb -ex 'set can-use-hw-watchpoints 0' -ex 'break Square if x == 1' -ex run -ex delete \
  -ex 'watch total' -ex continue -ex delete -ex kill $FIXTURE/debuggee
echo '--- registers and memory'
run_gdb -ex 'break Square' -ex run -ex 'print $rip == (long)&Square || $pc != 0' -ex 'set var x = 11' \
  -ex 'print $_siginfo.si_signo' -ex delete -ex 'finish' -ex kill \
  $FIXTURE/debuggee | grep -v '^Run till'
echo '--- a crash'
run_gdb -ex run -ex 'print $_siginfo.si_signo' -ex 'print $_siginfo._sifields._sigfault.si_addr' \
  -ex 'backtrace 1' -ex kill --args $FIXTURE/debuggee crash
echo '--- attach'
$FIXTURE/debuggee pause >ready & pid=$!
until grep -q ready ready; do sleep 0.01; done
run_gdb -ex 'print total' -ex 'set var total = 5' -ex detach -p $pid | grep '^\$\|Detach'
run_gdb -ex 'print total' -ex detach -p $pid | grep '^\$'
kill $pid; wait $pid; echo "status $?"
rm ready
