# needs: nginx curl ip unshare
# nginx with two workers: files by sendfile, a proxy to itself, keep-alive, reload, graceful end.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
mkdir www tmp && chmod 755 . www && head -c 1000000 /dev/zero | tr '\0' 'n' >www/big && echo hello >www/index.html
cat >nginx.conf <<CONF
daemon off; worker_processes 2; pid $PWD/tmp/pid; error_log $PWD/tmp/error.log crit; user root;
events { worker_connections 64; }
http {
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path $PWD/tmp/b; proxy_temp_path $PWD/tmp/p; fastcgi_temp_path $PWD/tmp/f;
  uwsgi_temp_path $PWD/tmp/u; scgi_temp_path $PWD/tmp/s;
  server { listen 127.0.0.1:8081 reuseport; listen [::1]:8081; listen unix:$PWD/tmp/sock;
    location / { root $PWD/www; }
    location /proxy/ { proxy_pass http://127.0.0.1:8081/; proxy_http_version 1.1; }
    location /unix/ { proxy_pass http://unix:$PWD/tmp/sock:/; } }
}
CONF
nginx -p "$PWD" -c "$PWD/nginx.conf" 2>/dev/null &
server=$!
for _ in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:8081/ && break; sleep 0.05; done
curl -s http://127.0.0.1:8081/ http://[::1]:8081/ http://127.0.0.1:8081/proxy/ http://127.0.0.1:8081/unix/
curl -s http://127.0.0.1:8081/big | sha256sum
curl -s http://127.0.0.1:8081/proxy/big | sha256sum
curl -s -r 5-9 http://127.0.0.1:8081/big; echo
curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8081/absent
seq 20 | xargs -P 5 -I{} curl -s -o /dev/null -w '%{http_code} %{size_download}\n' http://127.0.0.1:8081/big | sort | uniq -c
kill -HUP "$(cat tmp/pid)"; sleep 0.3
curl -s http://127.0.0.1:8081/
kill -QUIT "$(cat tmp/pid)"
wait $server && echo ended
rm -rf www tmp nginx.conf
