# needs: python3 ip unshare
# if: python3 -c 'import test.test_ssl'
# verdict: its own
# CPython's own tests of TLS, HTTP and FTP, over sockets of both families.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
python3 -m test -W -j 3 test_ssl test_httplib test_ftplib
