# needs: gdb gcc readelf
# fixture: gcc -g -O0 -pthread -o $FIXTURE/crasher $SRC/crasher.c
# A core file as gdb and readelf see it. Addresses and numbers of processes differ.
ulimit -c unlimited
rm -f core
sh -c "$FIXTURE/crasher" 2>/dev/null; echo "status $?"
ls -l core | cut -c1-10
gdb -nx -batch -iex 'set debuginfod enabled off' -ex 'set pagination off' -ex backtrace -ex 'print counter' \
  -ex 'print $_siginfo.si_signo' -ex 'print $_siginfo.si_code' -ex 'up 4' -ex 'info locals' -ex 'print *text@11' \
  -ex 'print $mxcsr' -ex 'echo the others\n' -ex 'thread apply all -q backtrace' -ex 'info sharedlibrary' \
  -ex 'info auxv' $FIXTURE/crasher core 2>&1 |
  grep -v 'libthread_db\|reg-xstate\|Using host\|^\[New LWP\|^\[Current thread' |
  sed -E 's/0x[0-9a-f]+/ADDR/g; s/(LWP|process|Thread) [0-9]+/\1 N/g; s/ *$//; s/  +/ /g; s#/[^ ]*/##g; s/^t = .*/t = N/; /^$/d' >told
echo '--- where it crashed'
sed '/^the others$/,$d' told
echo '--- its threads, libraries and auxiliary vector'
sed '1,/^the others$/d' told |
  grep -o 'Sleeper\|Spinner\|Crash (depth=[0-9]*\|libc\.so\|ld-linux\|AT_ENTRY\|AT_PHDR\|AT_PLATFORM' | sort | uniq -c
echo '--- notes'
# But for the mapped files, and what belongs to newer processors and kernels.
readelf -n core 2>/dev/null | grep '^  CORE' | grep -v NT_FILE | sed 's/  */ /g'
echo '--- segments of the program'
readelf -lW core | sed -n '/LOAD/{p}' | awk '{ print ($5 == $6 ? "whole" : $5 == "0x000000" ? "none" : "head"), $7, $8 }' |
  head -6
rm core told
