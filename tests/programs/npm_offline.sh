# needs: npm node
# Two packages made here: one is packed, installed into the other from its tarball, and both run scripts;
# no registry is asked.
export npm_config_offline=true npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false \
  npm_config_cache=$PWD/cache npm_config_loglevel=error NO_COLOR=1
mkdir lib app; cd lib
cat >package.json <<'J'
{"name": "greeter", "version": "1.2.3", "main": "index.js", "bin": {"greet": "cli.js"}, "files": ["*.js"]}
J
echo 'module.exports = (who) => `hello ${who}`;' >index.js
printf '#!/usr/bin/env node\nconsole.log(require("./index.js")(process.argv[2]));\n' >cli.js
npm pack --silent; cd ../app
cat >package.json <<'J'
{"name": "app", "version": "0.0.1", "private": true,
 "scripts": {"preinstall": "echo before >log", "greet": "greet script", "test": "node --test t.js >/dev/null && echo tested",
             "fail": "exit 3"}}
J
cat >t.js <<'J'
const test = require('node:test'), assert = require('node:assert'), greet = require('greeter');
test('greets', () => assert.strictEqual(greet('x'), 'hello x'));
J
npm install --silent ../lib/greeter-1.2.3.tgz; echo "install $?"; cat log
npm test -s; npm run -s fail; echo "fail $?"
ls node_modules/greeter; node_modules/.bin/greet link; readlink node_modules/.bin/greet
cd ..; rm -rf cache app/package-lock.json app/node_modules lib/*.tgz
