"""Drives an interactive bash over a pty: foreground, ^C, ^Z, bg, fg, window size."""
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios

pid, fd = pty.fork()
if pid == 0:
    os.environ.update(PS1="<prompt>", TERM="dumb")
    os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
seen = ""


def until(pattern):
    global seen
    while not re.search(pattern, seen):
        if not select.select([fd], [], [], 30)[0]:
            print("no", pattern, "in", repr(seen[-300:]))
            sys.exit(1)
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data.decode()
    match = re.search(pattern, seen)
    got = seen[:match.end()] if match else seen
    seen = seen[len(got):]
    return got


def say(text, pattern="<prompt>"):
    os.write(fd, text.encode())
    out = until(pattern)
    print(repr(re.sub(r"\d{3,}", "N", out)))


until("<prompt>")
say("stty size\n")
say("echo $((6*7)) $-\n")
say("tty | tr -d 0-9\n")
os.write(fd, b"cat\n")
until("cat\r\n")
os.write(fd, b"line\n")
until("line\r\nline\r\n")
say("\x03")
say("echo after $?\n")
os.write(fd, b"sleep 100\n")
until("sleep 100\r\n")
import time
time.sleep(0.2)
say("\x1a", "Stopped[^\n]*\n.*<prompt>")
say("jobs\n")
say("bg\n")
say("kill %1; wait %1; echo $?\n")
os.write(fd, b"cat > typed\n")
until("typed\r\n")
os.write(fd, b"some text\n\x04")
until("<prompt>")
say("cat typed\n")
os.write(fd, b"exit 4\n")
while True:
    try:
        if not os.read(fd, 4096):
            break
    except OSError:
        break
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
