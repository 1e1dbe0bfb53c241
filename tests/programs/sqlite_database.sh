# needs: sqlite3
# Journals of every kind, two processes at one file, and a crash in the middle of a transaction.
for mode in delete truncate persist wal memory; do
  sqlite3 $mode.db "pragma journal_mode=$mode; create table t(i integer primary key, s text);
    with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
    insert into t select i, hex(i * 7919) from n; create index x on t(s);
    select count(*), sum(i) from t; pragma integrity_check; delete from t where i % 3 = 0; vacuum;"
done
writer() {
  for i in $(seq 1 25); do
    sqlite3 -cmd '.timeout 60000' shared.db "insert into log values('$1', $i); update total set n = n + 1;"
  done
}
sqlite3 shared.db "pragma journal_mode=wal; create table log(who, i); create table total(n); insert into total values(0)"
writer a & writer b & writer c & wait
sqlite3 shared.db 'select who, count(*), sum(i) from log group by who; select n from total'
# Killed with a transaction open and its pages written: the next one rolls back.
mkfifo feed; sqlite3 delete.db <feed >half & p=$!; exec 5>feed
echo 'pragma journal_mode=delete; pragma cache_size=5; begin; update t set s = s || s || s; select "ready";' >&5
until grep -q ready half; do sleep 0.02; done
kill -KILL $p
wait $p 2>/dev/null; echo "killed $?"; ls delete.db*; exec 5>&-
sqlite3 delete.db 'pragma integrity_check; select count(*), max(length(s)) from t'; ls delete.db*
sqlite3 wal.db .dump | sqlite3 copy.db; sqlite3 copy.db 'select count(*) from t'
sqlite3 delete.db '.backup backup.db'; sqlite3 backup.db 'select count(*) from t'
echo 'a,b
1,2
3,4' >in.csv
sqlite3 :memory: '.mode csv' '.import in.csv c' 'select sum(a), sum(b) from c'
sqlite3 -readonly wal.db 'insert into t values(1, 2)' 2>&1 | sed 's/.*attempt/attempt/'
chmod 444 copy.db
rm -f half feed ./*-wal ./*-shm shared.db wal.db backup.db copy.db delete.db persist.db-journal
