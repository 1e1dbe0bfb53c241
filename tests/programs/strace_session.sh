# needs: strace gcc
# fixture: gcc -g -O0 -pthread -o $FIXTURE/debuggee $SRC/debuggee.c
echo '--- one program'
echo hello >file
strace -o log -e trace=openat,read,write cat file
grep -c '^openat' log >/dev/null && grep 'hello' log
tail -1 log
strace -o log -e trace=none sh -c 'exit 7'; echo "status $?"; cat log
echo '--- threads and children'
strace -f -o log $FIXTURE/debuggee fork
grep -c 'exited with 0' log
grep -o 'exited with 3' log
# Whether the thread is waited for depends on who is faster.
grep -q 'clone3\?(' log && echo cloned
echo '--- counts'
strace -c -o log true; grep -c execve log
echo '--- signals'
strace -o log -e trace=none -e signal=all sh -c 'kill -USR1 $$'; echo "status $?"
sed -E 's/si_pid=[0-9]+/si_pid=N/' log
echo '--- changed calls'
strace -o log -e trace=unlink,unlinkat -e inject=unlink,unlinkat:error=EBUSY rm file; echo "status $?"
ls file; grep -o 'EBUSY.*INJECTED)' log | sort -u
strace -o log -e inject=getuid:retval=42 -e trace=getuid,geteuid id -u >/dev/null; echo "status $?"
echo '--- a seccomp filter that picks the calls'
strace -f --seccomp-bpf -o log -e trace=write sh -c 'echo one; (echo two)'; grep -c 'write(1' log
echo '--- attach'
$FIXTURE/debuggee pause >ready & pid=$!
until grep -q ready ready; do sleep 0.01; done
strace -o log -p $pid 2>err & tracer=$!
until grep -q attached err && grep -q pause log; do sleep 0.01; done
kill -TERM $pid; wait $pid; echo "status $?"; wait $tracer
sed -E 's/.*(pause\().*/\1/; s/si_pid=[0-9]+/si_pid=N/; s/si_uid=[0-9]+/si_uid=U/' log
rm -f log err ready file
