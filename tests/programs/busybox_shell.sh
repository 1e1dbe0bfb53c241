# needs: busybox
exec busybox sh <<'EOF'
f() { echo "f got $# args: $*"; return 3; }
f a 'b c' || echo "returned $?"
i=0; while [ $i -lt 200 ]; do i=$((i + 1)); done; echo "counted $i"
echo "sub $(echo $(echo nested)) `echo old`"
for n in 3 1 2; do echo $n; done | busybox sort | busybox tr '\n' ' '; echo
busybox seq 1 500 | busybox awk '{s += $1} END {print s}'
echo hello world | busybox sed 's/o/0/g'
cat > here.txt <<X
home is ${HOME##*/}
X
busybox cat here.txt
trap 'echo trapped' USR1; kill -USR1 $$
(exit 7); echo "subshell $?"
busybox sleep 100 & pid=$!; kill $pid; wait $pid 2>/dev/null; echo "killed $?"
mkdir -p d/e; echo x > d/e/f; busybox tar cf t.tar d; rm -r d; busybox tar xf t.tar; busybox cat d/e/f
busybox find . -name f; busybox md5sum here.txt
printf '%s-%05d\n' pad 42
set -- one two three; shift; echo "$1 $#"
case xyz in x*) echo case;; esac
echo err >&2
exec 3> three; echo to three >&3; exec 3>&-; busybox wc -c < three
rm t.tar
EOF
