# needs: perl gzip tar
seq 1 20000 > n.txt
perl -ne '$s += $_; END { print "$s\n" }' n.txt
perl -e 'for (1..20) { my $p = fork; exit $_ % 3 unless $p; waitpid $p, 0; $t += $? >> 8 } print "$t\n"'
perl -e 'open my $f, "-|", "sort -rn n.txt | head -2"; print while <$f>; close $f; print $? >> 8, "\n"'
perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); syswrite A, "pair\n"; print scalar <B>'
gzip -k n.txt; zcat n.txt.gz | sha256sum; gzip -l n.txt.gz | awk 'NR == 2 {print $2}'
tar czf t.tgz n.txt; tar tzf t.tgz; rm n.txt.gz t.tgz
awk '{a[$1 % 7] += $1} END {for (i = 0; i < 7; i++) print i, a[i]}' n.txt
sed -n '5,7p' n.txt; grep -c 7 n.txt; tail -n +19999 n.txt; tac n.txt | head -1; sort -R n.txt | sort -n | cmp - n.txt && echo sorted
