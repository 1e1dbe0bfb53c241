# needs: iperf3 ip ss python3 unshare
# iperf3 over the loopback: one and four streams, the other way, UDP, IPv6. Only what must be is told.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
iperf3 -s >/dev/null 2>&1 &
server=$!
for _ in $(seq 100); do ss -Htln | grep -q 5201 && break; sleep 0.05; done
tell() {
  python3 -c '
import json, sys
r = json.load(sys.stdin)
e = r["end"]
if "sum_sent" in e: print(e["sum_sent"]["bytes"] > 0, e["sum_received"]["bytes"] > 0, len(e["streams"]))
else: print(e["sum"]["bytes"] > 0, len(e["streams"]))
'
}
iperf3 -J -c 127.0.0.1 -n 20M | tell
iperf3 -J -c 127.0.0.1 -n 20M -P 4 -R | tell
iperf3 -J -c ::1 -n 5M | tell
iperf3 -J -c 127.0.0.1 -u -b 20M -t 1 | tell
iperf3 -J -c 127.0.0.1 -n 5M -C reno -M 1000 -w 64K | tell
kill $server
