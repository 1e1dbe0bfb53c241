# needs: setpriv ip unshare python3
# PostgreSQL over TCP: initdb, psql, a transaction in two sessions, a cancelled query, pgbench.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1 || true)
if [ -z "$bin" ]; then echo "no PostgreSQL here"; exit 0; fi
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
chmod 755 . && mkdir db && chown 65534:65534 db && cd db
as() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$PWD" PGUSER=rw PGDATABASE=postgres PGHOST=127.0.0.1 PGPORT=5433 "$@"; }
as "$bin/initdb" -U rw -A trust -N -D data >/dev/null 2>log || { cat log; exit 1; }
as "$bin/postgres" -D data -p 5433 -c listen_addresses=127.0.0.1,::1 -c unix_socket_directories="" -c fsync=off -c shared_buffers=16MB >log 2>&1 &
server=$!
for _ in $(seq 200); do as "$bin/pg_isready" -q && break; sleep 0.1; done
as "$bin/psql" -qAt <<'SQL'
create table t (id int primary key, word text);
insert into t select i, 'word ' || i from generate_series(1, 5000) i;
select count(*), sum(id), md5(string_agg(word, ',' order by id)) from t;
select inet_server_addr(), inet_client_addr();
SQL
as "$bin/psql" -h ::1 -qAtc "select repeat('p', 2000000)" | md5sum
as "$bin/psql" -qAtc "set statement_timeout = 200; select pg_sleep(10)" 2>&1 || true
as "$bin/psql" -qAtc 'listen a; notify a' | grep -c notification || true
as "$bin/pgbench" -i -q -s 1 >/dev/null 2>&1
as "$bin/pgbench" -n -c 4 -t 20 2>/dev/null | grep -o 'transactions actually processed.*'
as "$bin/pg_ctl" -D data -m fast -s -w stop; wait $server || true
cd .. && rm -rf db
