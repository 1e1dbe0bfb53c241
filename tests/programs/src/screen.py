"""A terminal for tests: runs a command on a pty, keeps the screen that it draws, sends keys when asked.

A small VT100: what vim, less, tmux and top use of it with TERM=vt100 or screen. Everything is awaited by what
the screen shows, never by time.
"""
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios


LIMIT = 40  # seconds without a byte: then the program is stuck


class Screen:
    def __init__(self, argv, rows=24, cols=80, term="vt100", env=None):
        self.rows, self.cols = rows, cols
        self.cells = [[" "] * cols for _ in range(rows)]
        self.y = self.x = 0
        self.top, self.bottom = 0, rows - 1
        self.saved = (0, 0)
        self.rest = b""
        self.status = None
        go, ready = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.read(go, 1)  # the window's size first
            os.environ.update(dict(env or {}, TERM=term))
            os.execvp(argv[0], argv)
        self.resize(rows, cols)
        os.write(ready, b"x")
        os.close(ready)
        os.close(go)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        self.cells = [(row + [" "] * cols)[:cols] for row in (self.cells + [[] for _ in range(rows)])[:rows]]
        self.rows, self.cols, self.top, self.bottom = rows, cols, 0, rows - 1
        self.y, self.x = min(self.y, rows - 1), min(self.x, cols - 1)

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)

    def line_feed(self):
        if self.y == self.bottom:
            del self.cells[self.top]
            self.cells.insert(self.bottom, [" "] * self.cols)
        elif self.y < self.rows - 1:
            self.y += 1

    def put(self, char):
        if self.x >= self.cols:
            self.x = 0
            self.line_feed()
        self.cells[self.y][self.x] = char
        self.x += 1

    def control(self, private, numbers, final):
        n = numbers[0] if numbers and numbers[0] else 1
        first = numbers[0] if numbers else 0
        if final in "Hf":
            self.y = min(n, self.rows) - 1
            self.x = min((numbers[1] if len(numbers) > 1 and numbers[1] else 1), self.cols) - 1
        elif final == "A":
            self.y = max(self.top if self.y >= self.top else 0, self.y - n)
        elif final == "B":
            self.y = min(self.rows - 1, self.y + n)
        elif final == "C":
            self.x = min(self.cols - 1, self.x + n)
        elif final == "D":
            self.x = max(0, min(self.x, self.cols - 1) - n)
        elif final == "G":
            self.x = min(n, self.cols) - 1
        elif final == "d":
            self.y = min(n, self.rows) - 1
        elif final == "J":
            self.erase_line(first)
            for y in range(self.rows):
                if first == 2 or (first == 0 and y > self.y) or (first == 1 and y < self.y):
                    self.cells[y] = [" "] * self.cols
        elif final == "K":
            self.erase_line(first)
        elif final == "P":
            row = self.cells[self.y]
            del row[self.x:self.x + n]
            row.extend([" "] * (self.cols - len(row)))
        elif final == "@":
            self.cells[self.y] = (self.cells[self.y][:self.x] + [" "] * n +
                                  self.cells[self.y][self.x:])[:self.cols]
        elif final == "X":
            for x in range(self.x, min(self.cols, self.x + n)):
                self.cells[self.y][x] = " "
        elif final in "LM":
            for _ in range(n):
                if final == "L":
                    del self.cells[self.bottom]
                    self.cells.insert(self.y, [" "] * self.cols)
                else:
                    del self.cells[self.y]
                    self.cells.insert(self.bottom, [" "] * self.cols)
        elif final == "r" and not private:
            self.top = n - 1
            self.bottom = (numbers[1] if len(numbers) > 1 and numbers[1] else self.rows) - 1
            self.y, self.x = self.top, 0
        elif final == "c":
            os.write(self.fd, b"\x1b[?1;2c")
        elif final == "n" and first == 6:
            os.write(self.fd, b"\x1b[%d;%dR" % (self.y + 1, self.x + 1))

    def erase_line(self, how):
        for x in range(self.cols):
            if how == 2 or (how == 0 and x >= self.x) or (how == 1 and x <= self.x):
                self.cells[self.y][x] = " "

    PIECE = re.compile(rb"\x1b\[([?>=!]?)([0-9;:]*)([ -/]*)([@-~])|\x1b\](.*?)(?:\x07|\x1b\\)|\x1bP.*?\x1b\\|"
                       rb"\x1b[()*+#](.)|\x1b([^\[\]P()*+#])|([\x00-\x1a\x1c-\x1f\x7f])|"
                       rb"([\x20-\x7e]|[\xc0-\xf7][\x80-\xbf]+)", re.S)

    def feed(self, data):
        data = self.rest + data
        at = 0
        while at < len(data):
            m = self.PIECE.match(data, at)
            if not m:
                if data[at] == 0x1b and len(data) - at < 200 or data[at] >= 0xc0 and len(data) - at < 4:
                    break  # the rest of it has not come yet
                at += 1
                continue
            at = m.end()
            if m.group(4):
                numbers = [int(x) if x else 0 for x in re.split(rb"[;:]", m.group(2))] if m.group(2) else []
                if not m.group(3) and m.group(1) in (b"", b"?"):
                    self.control(m.group(1).decode(), numbers, m.group(4).decode())
            elif m.group(7):
                c = m.group(7)
                if c == b"7":
                    self.saved = (self.y, self.x)
                elif c == b"8":
                    self.y, self.x = self.saved
                elif c == b"M":
                    if self.y == self.top:
                        del self.cells[self.bottom]
                        self.cells.insert(self.top, [" "] * self.cols)
                    else:
                        self.y -= 1
                elif c == b"D":
                    self.line_feed()
                elif c == b"E":
                    self.x = 0
                    self.line_feed()
            elif m.group(8):
                c = m.group(8)
                if c == b"\n":
                    self.line_feed()
                elif c == b"\r":
                    self.x = 0
                elif c == b"\b":
                    self.x = max(0, min(self.x, self.cols - 1) - 1)
                elif c == b"\t":
                    self.x = min(self.cols - 1, self.x // 8 * 8 + 8)
            elif m.group(9):
                self.put(m.group(9).decode(errors="replace"))
        self.rest = data[at:]

    def read(self, limit):
        if not select.select([self.fd], [], [], limit)[0]:
            return None
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return b""
        self.feed(data)
        return data

    def until(self, *patterns):
        """Reads until the screen shows all patterns and returns it; without them for long the test ends."""
        while not all(re.search(p, self.text(), re.M) for p in patterns):
            data = self.read(LIMIT)
            if not data:
                print("never saw", patterns, "in what was closed" if data == b"" else "silence")
                print(self.text())
                os.kill(self.pid, 9)
                sys.exit(1)
        return self.text()

    def keys(self, text, *patterns):
        os.write(self.fd, text.encode())
        return self.until(*patterns)

    def end(self):
        while self.read(LIMIT):
            pass
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


def show(text):
    print("+" + "-" * 20)
    for line in text.rstrip().split("\n"):
        print("|" + line)
