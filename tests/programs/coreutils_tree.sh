# needs: find sort cp mv rm ln chmod touch tar diff du sha256sum
set -e
mkdir tree
for d in $(seq 0 99); do
  mkdir tree/d$d
  for f in $(seq 0 99); do echo "content $d $f" > tree/d$d/f$f; done
done
find tree -type f | wc -l
find tree -name 'f7*' | sort | sha256sum
find tree -type f -print0 | sort -z | xargs -0 cat | sha256sum
cp -a tree copy
diff -r tree copy && echo same
for d in 1 2 3; do ln tree/d$d/f1 tree/d$d/hard; ln -s f2 tree/d$d/soft; done
find tree -type f -links 2 | sort; find tree -type l -printf '%p -> %l\n' | sort
chmod -R g-r,o= copy; find copy -perm 600 -type f | wc -l
touch -d '2001-02-03 04:05:06' copy/d5/*; ls -l --time-style=+%Y-%m-%d copy/d5 | awk '{print $1, $2, $5, $6, $7}' | head -5
mv copy/d1 copy/moved; ls copy | sort | head -3
find copy -newermt 2001-01-01 ! -newermt 2002-01-01 -type f | wc -l
cat tree/d*/f50 | wc -lc
split -l 10 -d tree/d9/f9 part. ; ls part.*
tar cf - tree | tar tf - | wc -l
tar cf a.tar --sort=name --mtime=2000-01-01 --owner=0 --group=0 copy/d2; sha256sum < a.tar
comm -12 <(ls tree | sort) <(ls copy | sort) | wc -l
du -a tree/d1 | wc -l
dd if=/dev/zero of=zeros bs=64k count=20 2>/dev/null; stat -c '%s %A' zeros
truncate -s 1234 zeros; wc -c < zeros
cp --sparse=always zeros sparse; cmp zeros sparse && echo equal
install -m 711 zeros bin; stat -c %a bin
readlink -f tree/d1/soft | sed 's/.*tree/tree/'
mkfifo fifo; (echo through > fifo &) ; cat fifo
rm -r tree copy part.* a.tar zeros sparse bin fifo; ls | grep -v home || true
