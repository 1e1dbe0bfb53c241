# needs: chromium
# A page with a script, fetched from a server beside it, and a picture of it; once with Chromium's own sandbox, which
# makes namespaces and installs filters.
mkdir home site; export HOME=$PWD/home
echo '<h1 id=a>x</h1><script>document.getElementById("a").textContent = "sum " + [1, 2, 3].reduce((a, b) => a + b)</script>' >site/page.html
(cd site; exec python3 -m http.server --bind 127.0.0.1 8097 >/dev/null 2>&1) & server=$!
until (exec 3<>/dev/tcp/127.0.0.1/8097) 2>/dev/null; do sleep 0.05; done
page() { chromium --headless=new --disable-gpu --user-data-dir="$HOME/data" "$@" http://127.0.0.1:8097/page.html 2>/dev/null; }
page --no-sandbox --dump-dom | grep -o '<h1 id="a">sum [0-9]*'
page --no-sandbox --window-size=200,100 --screenshot="$HOME/page.png"
echo "picture $(head -c 8 home/page.png | tail -c 7 | head -c 3)"
if [[ $(id -u) -eq 0 ]]; then
  chmod 711 .; chown -R nobody home
  sandboxed() { setpriv --reuid=nobody --clear-groups bash -c "$(declare -f page); page --dump-dom"; }
else
  sandboxed() { page --dump-dom; }
fi
sandboxed | grep -o '<h1 id="a">sum [0-9]*'
kill $server; wait 2>/dev/null
rm -rf home site
