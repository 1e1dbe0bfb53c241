# needs: python3 ip unshare
# if: python3 -c 'import test.test_asyncio'
# verdict: its own
# CPython's own test_asyncio, its modules side by side.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
modules=$(python3 - <<'PY'
import glob, os
import test.test_asyncio as suite
print(*sorted("test.test_asyncio." + os.path.basename(p)[:-3] for p in glob.glob(suite.__path__[0] + "/test_*.py")))
PY
)
python3 -m test -W -j 6 $modules
