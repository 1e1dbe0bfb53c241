# needs: sudo su runuser
# Set-user-id programs and PAM. As root only: others are asked for a password.
[ "$(id -u)" = 0 ] || { echo 'not root'; exit 0; }
id -un; sudo -n -u nobody id | sed 's/ groups=.*//'; sudo -n -u '#65534' -g '#65534' id -u
sudo -n -u nobody sh -c 'exit 7'; echo "sudo $?"
sudo -n VAR=1 env | grep -E '^(VAR|SUDO_USER|SUDO_UID|LOGNAME)='; sudo -n -u nobody -H sh -c 'echo $HOME $USER'
su -s /bin/sh nobody -c 'id -un; exit 5'; echo "su $?"; su -s /bin/sh - nobody -c 'pwd; echo $LOGNAME' 2>/dev/null
runuser -u nobody -- sh -c 'id -un; touch /root/x 2>/dev/null; echo $?'
# From an ordinary user the bit on sudo and su counts: they ask for what nobody can give.
chmod 755 .; runuser -u nobody -- sudo -n true 2>&1 | grep -o 'a password is required'
echo wrong | runuser -u nobody -- su root -c true 2>&1 | tail -1
cp "$(command -v id)" idcopy; chown nobody idcopy; chmod 4755 idcopy; ./idcopy -u; runuser -u nobody -- ./idcopy -un
cat >suid.py <<'EOF'
import os
os.setresuid(65534, 65534, 0); print(os.getresuid()); os.seteuid(0); print(os.geteuid())
EOF
python3 suid.py 2>/dev/null || true; sudo -n -l >/dev/null; echo "list $?"
setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all sh -c 'id -u; grep Cap /proc/self/status'
setpriv --no-new-privs sudo -n true 2>&1 | grep -o '"no new privileges" flag is set'
unshare -Ur id -u; unshare -Urm sh -c 'mount -t tmpfs x /mnt && echo mounted'; runuser -u nobody -- unshare -Ur sh -c 'id -u; cat /proc/self/uid_map | tr -s " "'
sudo -n --preserve-env=LC_ALL sh -c 'echo $LC_ALL'; (echo data | sudo -n -u nobody cat); sudo -n -b true; printf 'a\n' | sudo -n tee file
sudo -n -u nobody timeout 0.1 sleep 5; echo "timeout $?"; sudo -n sh -c 'kill -TERM $$'; echo "killed $?"
chage -l root >/dev/null; echo "chage $?"; getent passwd nobody; capsh --print 2>/dev/null | grep -c Current >/dev/null
rm -f idcopy suid.py
