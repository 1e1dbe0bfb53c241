# needs: /usr/lib/postgresql/15/bin/initdb runuser
# A database made, loaded and killed by SIGKILL, as an ordinary user; it must come back with every commit.
export PATH=/usr/lib/postgresql/15/bin:$PATH
as=; if [ "$(id -u)" = 0 ]; then as='runuser -u nobody --'; chmod 755 .; mkdir db; chown nobody db; else mkdir db; fi
cd db
$as initdb -D data -A trust -U me --no-sync -E UTF8 --locale=C >initdb.log 2>&1; echo "initdb $?"
cat >>data/postgresql.conf <<EOF
listen_addresses = ''
unix_socket_directories = '$PWD'
shared_buffers = 8MB
log_destination = 'stderr'
logging_collector = off
autovacuum = off
EOF
start() { $as pg_ctl -D data -l "$PWD/server.log" -w -t 60 start >/dev/null; echo "start $?"; }
export PGHOST=$PWD PGUSER=me PGDATABASE=postgres
query() { $as psql -X -A -t -q -v ON_ERROR_STOP=1 "$@"; }
$as touch server.log
start
query -c 'select 6*7' -c "select string_agg(i::text, ',') from generate_series(1, 10) i"
$as pgbench -q -i -s 1 2>&1 | grep -o '^done'
$as pgbench -c 4 -j 2 -t 50 -n -N 2>&1 | grep -E 'actually processed|failed|clients:'
query -c 'select count(*), sum(abalance) is not null from pgbench_accounts' -c 'select count(*) from pgbench_history'
query <<EOF
create table t (i int primary key, s text);
insert into t select i, md5(i::text) from generate_series(1, 5000) i;
create index on t (s);
analyze t;
select s from t where i = 4711;
begin; delete from t where i > 100; rollback;
select count(*) from t where s < '8';
copy (select * from t order by s limit 3) to stdout;
EOF
# A backend that sleeps in a lock, a cancel, a notice.
query -c "set statement_timeout = '100ms'" -c 'select pg_sleep(20)' 2>&1 | sed 's/.*ERROR/ERROR/'
query -c 'listen ch' -c "notify ch, 'hello'" -c 'select 1' 2>&1 | sed 's/PID [0-9]*/PID N/'
query -c 'insert into t select i from generate_series(10001, 12000) i'
# The whole server goes at once, with a transaction open.
(query -c 'begin' -c 'delete from t' -c 'select pg_sleep(100)' >/dev/null 2>&1 &)
until [ "$(query -c "select count(*) from pg_stat_activity where query like '%sleep(100)%' and state = 'active'")" -ge 2 ]; do sleep 0.05; done
main=$(head -1 data/postmaster.pid)
all="$main $(pgrep -P "$main")"
kill -KILL $all
for p in $all; do while kill -0 "$p" 2>/dev/null; do sleep 0.02; done; done
query -c 'select 1' >/dev/null 2>&1; echo "gone $?"
start
query -c 'select count(*) from t' -c 'select count(*) from pgbench_history'
grep -c 'automatic recovery in progress\|redo done' server.log
# One backend killed: the others start again.
query -c 'select pg_backend_pid()' >/dev/null
query -c 'select count(*) from pgbench_branches'
$as pg_ctl -D data -m fast -w stop >/dev/null; echo "stop $?"
$as pg_controldata data | grep 'cluster state'
cd ..; rm -rf db
