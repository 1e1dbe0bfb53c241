# needs: node
node -e 'console.log(process.version.length > 3, 6 * 7)'
node - <<'EOF'
const fs = require("fs"), { execFile, spawn } = require("child_process"), { Worker } = require("worker_threads");
(async () => {
  await fs.promises.writeFile("f.txt", "text");
  console.log(await fs.promises.readFile("f.txt", "utf8"));
  console.log(await new Promise(r => execFile("echo", ["child"], (e, o) => r(o))));
  console.log(await Promise.all([1, 2, 3].map(n => new Promise(r => {
    const w = new Worker("require('worker_threads').parentPort.postMessage(require('worker_threads').workerData ** 2)",
                         { eval: true, workerData: n });
    w.on("message", r);
  }))));
  await new Promise(r => setTimeout(r, 20));
  const p = spawn("cat"); p.stdin.end("through cat");
  let s = ""; for await (const c of p.stdout) s += c; console.log(s);
  let x = 0; for (let i = 0; i < 3e7; i++) x = (x + i * i) % 1000003; console.log(x);
  process.on("SIGUSR2", () => { console.log("signal"); process.exit(3); });
  process.kill(process.pid, "SIGUSR2"); setTimeout(() => {}, 1000);
})();
EOF
echo "status $?"
