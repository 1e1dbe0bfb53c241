# needs: python3 ip unshare
# if: python3 -c 'import test.test_socket'
# verdict: its own
# CPython's own test_socket, in four parts side by side. What it needs and Linux may be built without is left
# out: AF_VSOCK's transport and UDP-Lite; and testSourceAddress, whose client's socket is closed by a cleanup of the
# other thread that may come before the client has asked for its name.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
classes=$(python3 - <<'PY'
import unittest
import test.test_socket as suite
names = sorted(n for n, c in vars(suite).items() if isinstance(c, type) and issubclass(c, unittest.TestCase))
for i in range(4):
    print(" ".join("-m *." + n + ".*" for n in names[i::4]))
PY
)
cat >patient.py <<'PY'
from test import support
support.LOOPBACK_TIMEOUT = 60  # not 5: of two processors others may have both
from test.libregrtest import main
main()
PY
i=0
set -f
while read -r line; do
  i=$((i + 1))
  python3 patient.py -W -i '*VSOCK*' -i '*UDPLITE*' -i testSourceAddress $line test_socket >"part$i" 2>&1 &
  pids="${pids:-} $!"
done <<<"$classes"
set +f
bad=0
for pid in $pids; do wait "$pid" || bad=1; done
if [ $bad -ne 0 ]; then cat part*; fi
rm part* patient.py
exit $bad
