# needs: ip ss unshare
# ip, ss and Python's view of the interfaces, in a network namespace of the script's own.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
ip -o addr show lo
ip -o link show lo | sed 's/ *link\/.*//'
ip rule
ip -6 rule
ip route show table local
ip link add rwa type veth peer name rwb
ip link set rwa address 02:00:00:00:00:01
ip link set rwb address 02:00:00:00:00:02
ip addr add 10.9.0.1/24 dev rwa
ip link set rwa up
ip link set rwb up
ip -o -4 addr show rwa
ip route
ip route add 10.10.0.0/16 via 10.9.0.2
ip route get 10.10.1.1 | head -1 | sed 's/ *$//; s/ uid [0-9]*//'
ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev rwa
ip neigh show 10.9.0.7
ip rule add from 10.9.0.0/24 table 100
ip rule
ip link add br0 type bridge
ip link set rwb master br0
ip -o link show master br0 | cut -d: -f2
ip link del br0
ip link del rwa
ip link show rwb 2>&1 || true
python3 - <<'PY'
import socket, subprocess
print(socket.if_nameindex())
a = socket.create_server(("127.0.0.1", 0))
port = a.getsockname()[1]
c = socket.create_connection(("127.0.0.1", port))
b, _ = a.accept()
out = subprocess.run(["ss", "-Htan"], capture_output=True, text=True).stdout
states = sorted(line.split()[0] for line in out.splitlines() if str(port) in line)
print(states)
with open("/proc/net/tcp") as f:
    lines = [l.split() for l in f][1:]
print(sorted(l[3] for l in lines if "%04X" % port in l[1] + l[2]))
PY
