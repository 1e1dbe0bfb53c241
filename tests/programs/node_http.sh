# needs: node ip unshare
# node's http server and client: keep-alive, a large body both ways, an upgrade, an abort.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
node - <<'JS'
const http = require('http'), crypto = require('crypto'), net = require('net');
const hash = (b) => crypto.createHash('sha256').update(b).digest('hex').slice(0, 16);
const server = http.createServer((q, r) => {
  if (q.url === '/hang') return;
  const parts = [];
  q.on('data', (d) => parts.push(d));
  q.on('end', () => r.end(JSON.stringify({ url: q.url, size: Buffer.concat(parts).length, hash: hash(Buffer.concat(parts)) }) + 'x'.repeat(100000)));
});
server.on('upgrade', (q, s) => { s.write('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'); s.pipe(s); });
server.listen(8082, '::', async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 3 });
  const ask = (host, path, body) => new Promise((good, bad) => {
    const q = http.request({ host, port: 8082, path, method: body ? 'POST' : 'GET', agent }, (r) => {
      let n = 0, head = '';
      r.on('data', (d) => { if (!n) head = d.toString().split('}')[0]; n += d.length; });
      r.on('end', () => good(`${r.statusCode} ${n} ${head}`));
    });
    q.on('error', bad);
    q.end(body);
  });
  console.log(await ask('127.0.0.1', '/a'));
  console.log(await ask('::1', '/b', Buffer.alloc(2000000, 7)));
  const all = await Promise.all(Array.from({ length: 30 }, (_, i) => ask('127.0.0.1', '/' + i, Buffer.alloc(5000, i))));
  console.log(all.length, hash(all.join()));
  await new Promise((done) => {
    const q = http.get({ host: '127.0.0.1', port: 8082, path: '/hang', timeout: 100 });
    q.on('timeout', () => q.destroy());
    q.on('error', (e) => { console.log(e.code); done(); });
  });
  await new Promise((done) => {
    const s = net.connect(8082, '127.0.0.1', () => s.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'));
    let got = '';
    s.on('data', (d) => { got += d; if (got.endsWith('\r\n\r\n')) s.write('ping'); if (got.endsWith('ping')) { console.log(JSON.stringify(got.slice(-4))); s.end(); } });
    s.on('close', done);
  });
  try { await ask('127.0.0.1', '/'); const c = net.connect(9, '127.0.0.1'); c.on('error', (e) => { console.log(e.code); agent.destroy(); server.close(); server.closeAllConnections(); }); } catch (e) { console.log(e); }
});
JS
