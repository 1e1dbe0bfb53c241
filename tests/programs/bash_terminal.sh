# needs: bash python3
# An interactive shell on a pty: line editing off, job control on.
python3 $SRC/terminal.py
