# needs: python3 curl wget ip unshare
# python's http.server read by curl and wget: ranges, keep-alive, POST, chunks, an IPv6 address, a refusal.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
mkdir www && head -c 300000 /dev/zero | tr '\0' 'a' >www/big && echo small >www/small
cat >serve.py <<'PY'
import http.server, os, socket, sys
class H(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        out = b"%d %s" % (len(body), body[:8])
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(0, len(out), 4):
            part = out[i:i + 4]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")
    def log_message(self, *a):
        pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
os.chdir("www")
s = S(("::", 8080), H)
open("../ready", "w").close()
s.serve_forever()
PY
python3 serve.py &
server=$!
trap 'kill $server' EXIT
while [ ! -e ready ]; do sleep 0.05; done
curl -s http://127.0.0.1:8080/small http://[::1]:8080/small
curl -s http://127.0.0.1:8080/big | sha256sum
curl -s -o /dev/null -w '%{http_code} %{size_download} %{num_connects}\n' http://127.0.0.1:8080/big http://127.0.0.1:8080/none
head -c 200000 /dev/zero | curl -s --data-binary @- http://127.0.0.1:8080/post | tr '\0' '0'; echo
wget -q -O - http://127.0.0.1:8080/small
wget -q -O got http://localhost:8080/big 2>&1 && cmp got www/big && echo same
rm -f got
seq 12 | xargs -P 6 -I{} curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/big | sort | uniq -c
curl -s http://127.0.0.1:9/ || echo "refused $?"
rm -rf www serve.py ready
