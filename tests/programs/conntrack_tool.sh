# needs: conntrack nft ping ip unshare
# Tracked connections as conntrack shows, changes, removes and follows them.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
nft -f - <<'EOF'
table inet t {
  chain c { type filter hook output priority 0; ct state new accept; }
}
EOF
mask() { sed -E 's/ *\[USERSPACE\].*//; s/ [0-9]+( [0-9]+)? src/ T src/; s/ [0-9]+( [0-9]+)? ([A-Z_]+) src/ T \2 src/; s/(sport|id)=[0-9]+/\1=N/; s/dport=([3-6][0-9]{4})/dport=N/g; s/ id=[0-9]+/ id=N/g; s/ +/ /g'; }
conntrack -E -e NEW,DESTROY -o extended >events 2>/dev/null & follower=$!
sleep 0.3
ping -q -c 1 127.0.0.1 >/dev/null
ping -q -c 1 ::1 >/dev/null
echo hi >/dev/udp/127.0.0.1/5300 || true
for family in ipv4 ipv6; do conntrack -L -f $family -o extended 2>&1 | mask | sort; done
conntrack -L -p udp --dport 5300 2>/dev/null | mask
conntrack -C
cd /proc/sys/net/netfilter
cat nf_conntrack_count nf_conntrack_udp_timeout nf_conntrack_tcp_timeout_established
echo 5 >nf_conntrack_udp_timeout; cat nf_conntrack_udp_timeout
cd - >/dev/null
echo hi >/dev/udp/127.0.0.1/5301 || true
conntrack -L -p udp --dport 5301 2>/dev/null | awk '{print ($3 <= 5)}'
conntrack -D -p icmp 2>&1 | mask
conntrack -D -p icmp 2>&1 || echo "nothing left: $?"
conntrack -G -p udp -s 127.0.0.1 -d 127.0.0.1 --sport 1 --dport 2 2>&1 | tail -1 || true
conntrack -F 2>&1 | tail -1
conntrack -L 2>&1 | tail -1
sleep 0.2
kill $follower; wait $follower 2>/dev/null || true
mask <events | sort
rm events
