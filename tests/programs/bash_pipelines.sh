# needs: bash cat sort wc
set -o pipefail
false | true | cat; echo "${PIPESTATUS[*]}"
seq 1 1000 | sort -rn | head -3
for i in {1..50}; do echo "$i" | cat | cat | cat; done | wc -l
diff <(seq 1 5) <(seq 1 6); echo "diff $?"
mapfile -t lines < <(printf 'a\nb\nc\n'); echo "${#lines[@]} ${lines[2]}"
coproc UP { while read -r l; do echo "${l^^}"; done; }
echo shout >&"${UP[1]}"; read -r answer <&"${UP[0]}"; echo "$answer"
eval "exec ${UP[1]}>&-"; wait "$UP_PID"; echo "coproc $?"
declare -A map=([x]=1 [y]=2); for k in x y; do echo "$k=${map[$k]}"; done
yes | head -c 1000000 | wc -c
(yes; echo "never: $?") | head -1
tee a.txt b.txt <<< "tee'd" | cat
{ echo out; echo err >&2; } 2>&1 >file.txt | cat; cat file.txt
printf '%s\n' {a..e}{1..3} | paste -sd' '
read -r -t 0.01 x < <(sleep 1) || echo "timeout $((${?} > 128))"
for n in 1 2 3; do (sleep 0.$((3 * n)); exit $n) & done; s=0; while wait -n; r=$?; [ $r -ne 127 ]; do s=$((s + r)); done; echo "sum $s"
head -c 3000000 /dev/zero | tee >(wc -c > count.txt) | wc -c
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -s count.txt ] && break; sleep 0.05; done; cat count.txt
