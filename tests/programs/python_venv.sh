# needs: python3
# A virtual environment, and a wheel made here and installed there by pip without any network.
python3 -c 'import venv, ensurepip' 2>/dev/null || { echo 'python3-venv is not installed'; exit 0; }
python3 -m venv env; echo "venv $?"; ls env/bin | grep -x 'pip\|python\|activate' ; readlink env/bin/python3
python3 - <<'EOF'
import zipfile, hashlib, base64
files = {"demo/__init__.py": "import os\ndef main():\n    print('hello from', os.path.basename(os.path.dirname(__file__)))\n",
         "demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
         "demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
         "demo-1.0.dist-info/entry_points.txt": "[console_scripts]\nhello = demo:main\n"}
record = "".join(f"{n},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}\n"
                 for n, t in files.items()) + "demo-1.0.dist-info/RECORD,,\n"
with zipfile.ZipFile("demo-1.0-py3-none-any.whl", "w") as z:
    for n, t in files.items(): z.writestr(zipfile.ZipInfo(n), t)
    z.writestr(zipfile.ZipInfo("demo-1.0.dist-info/RECORD"), record)
EOF
. env/bin/activate
pip --disable-pip-version-check install -q --no-index --no-compile ./demo-1.0-py3-none-any.whl; echo "pip $?"
hello; python -c 'import demo, sys; print(sys.prefix != sys.base_prefix, demo.__file__.split("/")[-2:])'
pip --disable-pip-version-check list --format=freeze | grep demo
pip --disable-pip-version-check uninstall -q -y demo; hello 2>/dev/null; echo "gone $?"
deactivate; rm -rf env
