# needs: find grep tar gzip bzip2 xz zstd cpio xargs
# A tree of some 2,000 files: found, searched, packed and unpacked again with everything that hangs on them.
mkdir -p tree/{a,b,c}/{1,2,3}/{x,y,z}; cd tree
for d in */*/*/; do for i in $(seq 1 40); do echo "$d line $i"; done | (cd "$d"; split -l 1 -a 3 - f); done
ln -s ../b/1 a/link; ln a/1/x/faaa c/hard; mkfifo c/pipe; chmod 640 a/1/x/faab; chmod 1777 b/2; touch -d '2001-02-03 04:05:06.789' a/1/y/faac
truncate -s 1200K b/sparse; echo data | dd of=b/sparse bs=1 seek=1M conv=notrunc status=none
setfattr -n user.note -v hi b/1/x/faaa 2>/dev/null; echo hidden >.hidden; mkdir 'name with space'; touch $'name with space/new\nline'
find . -type f | wc -l; find . -name 'fab*' -newer a/1/y/faac | wc -l; find . -perm -1000 -o -type p -o -type l | sort
find . -type f -size +1M -printf '%p %s %n\n'; find . -samefile c/hard | sort; find . -empty | sort | cat -v
find . -mindepth 2 -maxdepth 2 -type d -exec sh -c 'echo $1 $(ls $1 | wc -l)' _ {} \; | sort
find . -type f -print0 | xargs -0 -n 50 -P 2 cat | wc -c; find a -type f -delete; find a -type d | wc -l
grep -rl 'line 7$' b c | wc -l; grep -rhc x . --include='faa[ab]' 2>/dev/null | sort | uniq -c
grep -rnE '^(b|c)/1/x.*(39|40)$' . | sort; grep -q nowhere -r .; echo "grep $?"
cd ..
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -S -cf t.tar tree 2>&1; tar tf t.tar | wc -l
for z in gzip bzip2 xz zstd; do $z -q -c t.tar >t.$z; $z -q -t t.$z; $z -q -dc t.$z | cmp - t.tar && echo "$z same"; done
xz -T2 -c t.tar | xz -T2 -dc | cmp - t.tar && echo threads; zstd -q -T2 -c t.tar | zstd -q -dc | cmp - t.tar && echo threads
mkdir out; tar xf t.tar -C out; diff -r --no-dereference tree out/tree 2>&1 | grep -v 'fifo'; stat -c '%h %F %a' out/tree/{c/pipe,b/2,a/link}
[ $(du -k out/tree/b/sparse | cut -f1) -lt 100 ] && echo sparse
tar czf - tree | tar tzf - | sort | tail -1; (cd tree; find . -depth | cpio -o -H newc 2>/dev/null) | (mkdir c; cd c; cpio -id 2>/dev/null; find . | wc -l)
tar --xattrs -cf x.tar tree/b/1; mkdir x; tar --xattrs --xattrs-include='*' -xf x.tar -C x; ls x/tree/b/1 | wc -l
tar xf t.tar --to-command='wc -c >/dev/null' tree/b/1/x/faaa; echo $?; head -c 100 t.gzip >short; gzip -t short 2>/dev/null; echo $?
for i in $(seq 1 30); do cp -a tree/b/1/x/faaa copy$i; done; ls | wc -l; tar -cf inc.tar -g snap tree; touch -d @1 tree/c/2/x/faab; tar -cf inc2.tar -g snap tree; tar tf inc2.tar | grep -v '/$'
rm -rf tree out c x t.* x.tar inc.tar inc2.tar snap short copy*
