# needs: dpkg dpkg-deb dpkg-query
# A small package is made, installed beside the system's, changed, refused, and removed again.
[ "$(id -u)" = 0 ] || { echo 'not root'; exit 0; }
make_package() {
  rm -rf p; mkdir -p p/DEBIAN p/usr/share/demo p/etc/demo p/usr/bin; echo "data $1" >p/usr/share/demo/data; echo setting >p/etc/demo/conf
  printf '#!/bin/sh\necho "demo %s"\n' "$1" >p/usr/bin/ringwall-demo; chmod 755 p/usr/bin/ringwall-demo; ln -s data p/usr/share/demo/link
  seq 1 40 | while read -r i; do echo "$i" >"p/usr/share/demo/f$i"; done
  printf 'Package: ringwall-demo\nVersion: %s\nArchitecture: all\nMaintainer: T <t@example.test>\nDescription: demo\n%s' "$1" "$2" >p/DEBIAN/control
  echo /etc/demo/conf >p/DEBIAN/conffiles
  for s in preinst postinst prerm postrm; do printf '#!/bin/sh\nset -e\necho "%s $1"\n' $s >p/DEBIAN/$s; chmod 755 p/DEBIAN/$s; done
  SOURCE_DATE_EPOCH=0 dpkg-deb --root-owner-group -Znone -b p "demo_$1.deb" >/dev/null; echo "made $?"
}
# An instance of its own: an empty database and root, scripts run by --force-script-chrootless.
mkdir -p root/var/lib/dpkg/{info,updates,triggers} root/var/log; touch root/var/lib/dpkg/{status,available}
d() { dpkg --root="$PWD/root" --force-script-chrootless --force-not-root --log=/dev/null "$@"; }
make_package 1 ''; make_package 2 ''; make_package 3 $'Depends: something-else\n'
dpkg-deb -I demo_1.deb | grep -c Version; dpkg-deb -c demo_1.deb | wc -l
d -i demo_1.deb 2>&1; echo "install $?"; root/usr/bin/ringwall-demo; d -s ringwall-demo | grep Status
d -V ringwall-demo; echo changed >root/usr/share/demo/data; d -V ringwall-demo; echo own >root/etc/demo/conf
d --force-confold -i demo_2.deb 2>&1 | sed 's/(Reading.*//'; echo "upgrade ${PIPESTATUS[0]}"; cat root/usr/share/demo/data root/etc/demo/conf
d -i demo_3.deb >out 2>&1; echo "depends $?"; grep -c 'dependency problems' out
d --force-depends -i demo_2.deb >/dev/null 2>&1; echo "down $?"
d -L ringwall-demo | wc -l; d -S /usr/share/demo/f7; d -r ringwall-demo 2>&1 | sed 's/(Reading.*//'; ls root/etc/demo; d -P ringwall-demo 2>&1 | sed 's/(Reading.*//'; ls root/etc
d -l 2>/dev/null | tail -n +6; find root -type f | sort
dpkg-query -W -f '${Status}\n' dpkg
rm -rf root p out
