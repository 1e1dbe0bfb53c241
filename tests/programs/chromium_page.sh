# needs: chromium
# A page that computes, as text and as a picture, in a browser of a dozen processes.
echo '<h1 id=a>x</h1><script>document.getElementById("a").textContent="sum "+[1,2,3].reduce((a,b)=>a+b)</script>' >p.html
c() {
  chromium --headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --user-data-dir="$HOME/data" "$@" 2>/dev/null
}
c --dump-dom "file://$PWD/p.html" | grep -o 'sum [0-9]*'; echo "text ${PIPESTATUS[*]}"
c --window-size=200,100 --screenshot="$PWD/shot.png" "file://$PWD/p.html"; echo "picture $?"
file -b shot.png; rm shot.png
