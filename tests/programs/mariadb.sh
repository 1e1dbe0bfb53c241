# needs: mariadbd mariadb-install-db mariadb mariadb-admin
# A server made, loaded and killed by SIGKILL with a transaction open; InnoDB must bring every commit back.
me=$(id -un); d=$PWD/db; mkdir "$d" "$d/tmp"  # not /tmp, where servers clear up after each other
mariadb-install-db --no-defaults --user="$me" --datadir="$d/data" --tmpdir="$d/tmp" --skip-test-db \
  --auth-root-authentication-method=normal >"$d/install.log" 2>&1 || { cat "$d/install.log"; exit 1; }
start() {
  mariadbd --no-defaults --user="$me" --datadir="$d/data" --socket="$d/s" --tmpdir="$d/tmp" --skip-networking --pid-file="$d/pid" \
    --innodb-buffer-pool-size=16M --innodb-log-file-size=8M --log-error="$d/err.log" >/dev/null 2>&1 &
  server=$!
  until mariadb-admin --no-defaults -uroot -S "$d/s" ping >/dev/null 2>&1; do
    kill -0 $server || { cat "$d/err.log"; exit 1; }
    sleep 0.1
  done
}
query() { mariadb --no-defaults -uroot -S "$d/s" -N "$@" 2>&1; }
sums='select count(*), sum(id), md5(group_concat(s order by id)) from t.a'
start
{
  echo "create database t; use t; create table a (id int primary key auto_increment, s varchar(100)) engine=innodb;"
  echo "insert into a (s) values ('one'), ('two'), ('three');"
  for i in 1 2 3 4 5 6 7; do echo 'insert into a (s) select concat(s, id) from a;'; done
  echo "$sums; create index by_s on a (s); select count(*) from a where s like 'two1%';"
  echo "start transaction; delete from a where id > 10; rollback; select count(*) from a;"
  echo "create table m (k int, v text, fulltext (v)) engine=aria; insert into m values (1, 'hello world'), (2, 'other');"
  echo "select k from m where match (v) against ('hello'); select * from nothing;"
} | query
# Two connections and a lock: the second waits for the first.
query -e "begin; update t.a set s = 'held' where id = 1; select sleep(0.3); rollback" >"$d/first" &
query -e "set innodb_lock_wait_timeout = 20; update t.a set s = 'second' where id = 1; select row_count()"
wait $!; cat "$d/first"
(query -e "begin; update t.a set s = 'lost'; select sleep(1000)" >/dev/null &)
until [ "$(query -e "select count(*) from information_schema.processlist where state = 'User sleep'")" = 1 ]; do sleep 0.05; done
kill -9 $server; wait $server 2>/dev/null; echo "killed $?"
start
query -e "$sums; check table t.a, t.m; select s from t.a where id = 1"
mariadb-admin --no-defaults -uroot -S "$d/s" shutdown; wait $server; echo "shut down $?"
rm -rf "$d"
