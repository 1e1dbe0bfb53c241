// A terminal in every mode: random settings, keys, output and control calls, told with all that both sides
// read. A write to one side arrives at the other by a worker of the kernel: reading to the end waits for it,
// so every step that writes also reads to the end, or writes one piece that arrives at once and then polls.
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

struct KernelTermios {
  uint32_t iflag, oflag, cflag, lflag;
  uint8_t line;
  uint8_t cc[19];
};

constexpr uint32_t kExtProc = 0200000;  // EXTPROC
int master, slave;
volatile sig_atomic_t signals[65];
void Count(int signo) { signals[signo] = signals[signo] + 1; }

void Bytes(const char* name, const uint8_t* bytes, ssize_t n) {
  printf(" %s", name);
  if (n < 0) {
    printf(" %s", strerrorname_np(errno));
    return;
  }
  printf(" \"");
  for (ssize_t i = 0; i < n; i++) bytes[i] >= 32 && bytes[i] < 127 && bytes[i] != '\\' ? printf("%c", bytes[i]) : printf("\\%02x", bytes[i]);
  printf("\"");
}
void Signals() {
  for (int i = 1; i < 65; i++) {
    if (signals[i] != 0) printf(" signal %d", i);
    signals[i] = 0;
  }
}
uint8_t room[16384];
bool packet;

KernelTermios Now() {
  KernelTermios t = {};
  ioctl(master, TCGETS, &t);
  return t;
}
// All there is. Lines arrive one by one; in other modes only their sum is sure.
void DrainSlave() {
  const bool lines = (Now().lflag & ICANON) != 0;
  size_t all = 0;
  for (int turn = 0; turn < 100; turn++) {
    const ssize_t n = read(slave, room + (lines ? 0 : all), 4096);
    if (lines || n < 0) {
      if (!lines && all != 0) Bytes("slave", room, static_cast<ssize_t>(all));
      Bytes("slave", room, n);
    }
    if (n < 0) break;
    if (!lines) {
      all += static_cast<size_t>(n);
      if (n == 0) {
        printf(" slave nothing");
        break;
      }
    }
  }
}
void DrainMaster() {
  size_t all = 0;
  for (int turn = 0; turn < 100; turn++) {
    uint8_t piece[4096];
    const ssize_t n = read(master, piece, sizeof(piece));
    if (n <= 0) {
      Bytes("master", room, static_cast<ssize_t>(all));
      if (n == 0 || errno != EAGAIN) Bytes("end", room, n);
      return;
    }
    size_t from = 0;
    if (packet) {
      if (piece[0] != 0) printf(" packet %#x", piece[0]);
      from = 1;
    }
    const size_t kept = std::min(static_cast<size_t>(n) - from, sizeof(room) - all);
    memcpy(room + all, piece + from, kept), all += kept;
  }
}
void Drain() {
  DrainSlave();
  DrainMaster();
  Signals();
  printf("\n");
}

size_t Keys(uint8_t* to, size_t limit) {
  const size_t n = 1 + Below(static_cast<uint32_t>(limit));
  for (size_t i = 0; i < n; i++) {
    switch (Below(10)) {
      case 0: to[i] = Pick('\n', '\r', '\n', '\t', ' ', ' '); break;
      case 1: to[i] = static_cast<uint8_t>(Below(256)); break;
      case 2: to[i] = static_cast<uint8_t>(Below(32)); break;
      case 3: to[i] = Pick(0x7f, 0x15, 0x17, 4, 22, 18, 0x7f, 0x17); break;  // ERASE KILL WERASE EOF LNEXT REPRINT
      case 4: to[i] = Pick(0xff, 0, 0xc3, 0xa4, 0xe2, '\\', 'x', 'y'); break;
      default: to[i] = static_cast<uint8_t>(OneIn(3) ? 'A' + Below(26) : 'a' + Below(26)); break;
    }
  }
  return n;
}
void Type() {
  uint8_t keys[40];
  const size_t n = Keys(keys, OneIn(4) ? 40 : 8);
  Say("type");
  Bytes("", keys, static_cast<ssize_t>(n));
  const ssize_t r = write(master, keys, n);
  printf(" = %zd", r);
  Drain();
}
void State() {
  pollfd both[2] = {{slave, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0}, {master, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0}};
  poll(both, 2, 0);
  int there = -1, out = -1, master_out = -1;
  ioctl(slave, FIONREAD, &there), ioctl(slave, TIOCOUTQ, &out), ioctl(master, TIOCOUTQ, &master_out);
  printf(" poll %#x %#x FIONREAD %d TIOCOUTQ %d %d", both[0].revents, both[1].revents, there, out, master_out);
}
// Keys that stay: a part of a line, or one line.
void TypeAhead() {
  uint8_t keys[9];
  const size_t n = 1 + Below(8);
  for (size_t i = 0; i < n; i++) keys[i] = static_cast<uint8_t>('a' + Below(26));
  if (OneIn(2)) keys[n - 1] = Pick('\n', '\r', 4, 'z', 0x7f);
  Say("type ahead");
  Bytes("", keys, static_cast<ssize_t>(n));
  const ssize_t r = write(master, keys, n);
  printf(" = %zd", r);
  usleep(2000);  // the worker shows a line before its echo is on the other side
  State();
  switch (Below(4)) {
    case 0: {
      const size_t size = Pick(1u, 2u, 3u, 8u, 0u);
      const ssize_t got = read(slave, room, size);
      Bytes("read", room, got);
      State();
      break;
    }
    case 1: {
      const int which = Pick(TCIFLUSH, TCOFLUSH, TCIOFLUSH);
      DrainMaster();  // what is on its way is not to be flushed or not by chance
      const int f = ioctl(slave, TCFLSH, which);
      printf(" flush %d = %d", which, f);
      break;
    }
    case 2: {
      KernelTermios t = Now();
      t.lflag ^= ICANON;
      DrainMaster();
      const unsigned how = Pick(TCSETS, TCSETSW, TCSETSF);
      ioctl(slave, how, &t);
      printf(" icanon %d by %#x", (t.lflag & ICANON) != 0, how);
      State();
      break;
    }
    default: break;
  }
  Drain();
}
void Print() {
  uint8_t text[40];
  const size_t n = 1 + Below(40);
  for (size_t i = 0; i < n; i++) text[i] = static_cast<uint8_t>(OneIn(3) ? Pick('\n', '\r', '\t', '\b', 7, 0x1b, 0, 0xc3, 0xa4) : (OneIn(2) ? 'a' : 'A') + static_cast<int>(Below(26)));
  Say("print");
  Bytes("", text, static_cast<ssize_t>(n));
  const ssize_t r = write(slave, text, n);
  if (r < 0) printf(" = %s", strerrorname_np(errno)); else printf(" = %zd", r);
  Drain();
}
uint32_t Some(std::initializer_list<uint32_t> flags) {
  uint32_t all = 0;
  for (const uint32_t f : flags) all |= OneIn(3) ? f : 0;
  return all;
}
void Settings() {
  KernelTermios t = {};
  Drain();
  if (!OneIn(3)) t.iflag = Some({IGNBRK, BRKINT, IGNPAR, PARMRK, INPCK, ISTRIP, INLCR, IGNCR, ICRNL, IUCLC, IXON, IXANY, IXOFF, IMAXBEL, IUTF8});
  else t.iflag = ICRNL;
  t.oflag = OneIn(3) ? OPOST | ONLCR : Some({OPOST, OPOST, OLCUC, ONLCR, OCRNL, ONOCR, ONLRET, XTABS, OFILL});
  t.cflag = B38400 | CS8 | CREAD | Some({CSTOPB, PARENB, PARODD, HUPCL, CLOCAL});
  t.lflag = OneIn(3) ? ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN
                     : Some({ISIG, ICANON, ICANON, XCASE, ECHO, ECHO, ECHOE, ECHOK, ECHONL, NOFLSH, ECHOCTL, ECHOPRT, ECHOKE, IEXTEN, IEXTEN, kExtProc});
  const uint8_t usual[19] = {3, 034, 0177, 025, 4, 0, 1, 0, 021, 023, 032, 0, 022, 017, 027, 026, 0, 0, 0};
  memcpy(t.cc, usual, sizeof(usual));
  if (OneIn(2)) t.cc[VEOL] = static_cast<uint8_t>(Pick('x', 0, '\r', 0xff)), t.cc[VEOL2] = static_cast<uint8_t>(Pick('y', 0, 4));
  if (OneIn(4)) t.cc[Pick(VINTR, VQUIT, VERASE, VKILL, VEOF, VSTART, VSTOP, VSUSP, VREPRINT, VDISCARD, VWERASE, VLNEXT)] = static_cast<uint8_t>(Pick(0, 'q', 'Q', 4, '\n', 0x80));
  t.cc[VMIN] = static_cast<uint8_t>(Pick(0, 1, 1, 3)), t.cc[VTIME] = 0;
  const unsigned how = Pick(TCSETS, TCSETSW, TCSETSF);
  Say("settings %#x i %#o o %#o c %#o l %#o eol %d %d min %d", how, t.iflag, t.oflag, t.cflag, t.lflag, t.cc[VEOL], t.cc[VEOL2], t.cc[VMIN]);
  const int r = ioctl(OneIn(4) ? master : slave, how, &t);
  const KernelTermios now = Now();
  printf(" now %#o %#o %#o %#o", now.iflag, now.oflag, now.cflag, now.lflag);
  for (const uint8_t c : now.cc) printf(" %d", c);
  printf(" = %d", r);
  Drain();  // what was half a line may be there now
}
void Flow() {
  const int side = Pick(slave, slave, master);
  const int what = Pick(TCOOFF, TCOON, TCIOFF, TCION, 4, -1);
  Say("TCXONC(%s, %d)", side == slave ? "slave" : "master", what);
  const int r = ioctl(side, TCXONC, what);
  if (r < 0) printf(" %s", strerrorname_np(errno));
  Drain();
}
void Sti() {
  char c = static_cast<char>(Pick('a', '\n', 3, 4, 0x7f));
  const int side = Pick(slave, slave, master);
  Say("TIOCSTI(%s, %d)", side == slave ? "slave" : "master", c);
  const int r = ioctl(side, TIOCSTI, &c);
  if (r < 0) printf(" %s", strerrorname_np(errno));
  Drain();
}
void Packet() {
  int on = Pick(0, 1, 2);
  Say("TIOCPKT %d", on);
  const int r = ioctl(master, TIOCPKT, &on);
  packet = on != 0;
  int is = -1;
  ioctl(master, TIOCGPKT, &is);
  printf(" is %d = %d", is, r);
  Drain();
}
void Window() {
  winsize size = {static_cast<uint16_t>(Pick(1, 24)), static_cast<uint16_t>(Pick(80, 81)), 0, 0};
  Say("TIOCSWINSZ %d", size.ws_row);
  const int r = ioctl(Pick(slave, master), TIOCSWINSZ, &size);
  printf(" = %d", r);
  Drain();
}
void Rest() {
  const int side = Pick(slave, master);
  static const unsigned numbers[] = {TCSBRK, TCSBRKP, TIOCSBRK, TIOCCBRK, TCFLSH, TIOCEXCL, TIOCNXCL, TIOCGSID, TIOCGPGRP, TIOCSPTLCK, TIOCGPTLCK, TIOCSCTTY, TIOCGETD, TIOCSETD,
                                     TIOCMGET, TIOCMSET, TIOCGSERIAL, TIOCGICOUNT, TIOCSSOFTCAR, TIOCGSOFTCAR, TIOCCONS, TIOCLINUX, TIOCGLCKTRMIOS, TIOCSLCKTRMIOS, 0x40045436 /* TIOCSIG */, TIOCGDEV, TCGETX, TCSETX, TIOCSERGETLSR, TIOCMIWAIT, FIONBIO, TIOCGRS485, TIOCGETD, 0x54ff};
  const unsigned number = numbers[Below(std::size(numbers))];
  if (number == TIOCCONS || number == TIOCLINUX) return;
  int argument[32] = {};
  uintptr_t value = reinterpret_cast<uintptr_t>(argument);
  if (number == TIOCSETD) argument[0] = Pick(0, 30, -1);
  if (number == FIONBIO) argument[0] = 1;
  if (number == TCFLSH || number == TCSBRKP || number == TCSBRK) value = static_cast<uintptr_t>(Pick(0, 1, 2, 3, -1));
  if (number == TCSBRK && value == 0) value = 1;
  if (number == TCSBRKP) value = 1;  // a tenth of a second
  if (number == 0x40045436) value = static_cast<uintptr_t>(Pick(SIGINT, SIGQUIT, SIGTSTP, SIGTERM, 0, 65, -1));
  const bool bad = OneIn(8) && number != TCFLSH && number != TCSBRK && number != TCSBRKP;
  if (bad) value = 16;
  Drain();
  Say("ioctl(%s, %#x, %ld)", side == slave ? "slave" : "master", number, value < 100 || static_cast<intptr_t>(value) < 0 ? static_cast<long>(value) : 100L);
  const int r = ioctl(side, number, value);
  if (number != TIOCGSID && number != TIOCGPGRP && number != TIOCGDEV && !bad) printf(" %d", number == TCFLSH ? 0 : argument[0]);
  printf(" %s", r < 0 ? strerrorname_np(errno) : "ok");
  if (number == TIOCSETD && r == 0) argument[0] = 0, ioctl(side, TIOCSETD, argument);
  Drain();
}
// A line longer than there is place for.
void LongLine() {
  static uint8_t many[6000];
  memset(many, 'm', sizeof(many));
  const size_t n = Pick(4092u, 4093u, 4094u, 4095u, 4096u, 4097u, 5000u);
  KernelTermios t = Now();
  if ((t.lflag & ICANON) == 0 || (t.lflag & kExtProc) != 0) return;
  Drain();
  t.lflag &= ~static_cast<uint32_t>(ECHO);
  ioctl(slave, TCSETS, &t);
  Say("long line %zu", n);
  size_t done = 0;
  // Pieces, each of which has arrived before the next: polling for input that is not there waits for it.
  while (done < n) {
    const ssize_t r = write(master, many + done, std::min<size_t>(n - done, 512));
    if (r <= 0) break;
    done += static_cast<size_t>(r);
    pollfd p = {slave, POLLIN, 0};
    poll(&p, 1, 0);
  }
  printf(" wrote %zu", done);
  const ssize_t end = write(master, "\n", 1);
  printf(" end %zd", end);
  int got;
  while ((got = static_cast<int>(read(slave, many, sizeof(many)))) > 0) printf(" line %d", got);
  Drain();
}
// Until all that one side wrote is where the other reads it, or as much as fits there.
void Arrive(int fd, size_t all) {
  const int expected = static_cast<int>(std::min<size_t>(all, 4095));
  for (int turn = 0; turn < 1000; turn++) {
    int there = -1;
    ioctl(fd, FIONREAD, &there);
    if (there == expected) return;
    usleep(10);
  }
  int there = -1; ioctl(fd, FIONREAD, &there); printf(" never %d but %d", expected, there);
  fflush(stdout);
  exit(1);
}
// Pieces of one size until no more fits, then reads of one size until all is read.
void Flood(const char* name, int from, int to, size_t each, bool lines) {
  static uint8_t many[4096];
  memset(many, 'x', sizeof(many));
  const size_t line = lines ? 1 + Below(60) : 0;
  for (size_t i = 0; lines && i < sizeof(many); i += line) many[i] = '\n';
  const size_t returns = lines ? (each + line - 1) / line : 0, take = Pick(1000u, 1u + Below(4000), 4095u);
  Say("%s floods by %zu (%zu) ", name, each, line);
  size_t all = 0;
  for (int turn = 0; turn < 4000; turn++) {
    const ssize_t r = write(from, many, each);
    if (r != static_cast<ssize_t>(each)) {
      printf("%d, then %zd", turn, r);
      if (r < 0) printf(" %s", strerrorname_np(errno));
      // Of lines one does not know how many of these were a line's end.
      if (r > 0) all += lines ? 10000 : static_cast<size_t>(r);
      break;
    }
    all += each + returns;
    Arrive(to, all);
  }
  State();
  for (bool more = true; more && !lines;) {
    const ssize_t r = read(to, room, take);
    more = r > 0;
    all -= more ? static_cast<size_t>(r) : 0;
    Arrive(to, all);
    pollfd p = {from, POLLOUT, 0};
    poll(&p, 1, 0);
    printf(" %zd:%#x", r, p.revents);
  }
  Drain();
}
void FloodIn() {
  KernelTermios t = Now();
  if (packet) return;
  Drain();
  t.lflag &= ~static_cast<uint32_t>(ICANON | ECHO | ECHONL | ISIG | kExtProc), t.iflag &= ~static_cast<uint32_t>(PARMRK | IXON);
  t.cc[VMIN] = 1;
  ioctl(slave, TCSETS, &t);
  Drain();  // half a line
  Flood("master", master, slave, Pick(1u + Below(300), 1u + Below(4000), 2048u, 512u), false);
}
void FloodOut() {
  KernelTermios t = Now();
  if (packet) return;
  Drain();
  const bool lines = OneIn(2);
  t.oflag = lines ? OPOST | ONLCR : 0;
  ioctl(slave, TCSETS, &t);
  Flood("slave", slave, master, Pick(1u + Below(300), 1u + Below(4000), 2048u, 512u), lines);
}
void BadRoom() {
  Say("bad room");
  void* volatile nowhere = reinterpret_cast<void*>(16);  // unknown to the compiler, which would warn
  void* const bad = nowhere;
  Drain();
  (void)!write(master, "q\n", 2);
  pollfd p = {slave, POLLIN, 0};
  poll(&p, 1, 0);
  ssize_t r = read(slave, bad, 5);
  printf(" read %s", r < 0 ? strerrorname_np(errno) : "ok");
  r = write(slave, bad, 5);
  printf(" write %s", r < 0 ? strerrorname_np(errno) : "ok");
  r = write(master, bad, 5);
  printf(" write %s", r < 0 ? strerrorname_np(errno) : "ok");
  DrainMaster();
  (void)!write(slave, "q", 1);
  p = {master, POLLIN, 0};
  poll(&p, 1, 0);
  r = read(master, bad, 5);
  printf(" read %s", r < 0 ? strerrorname_np(errno) : "ok");
  Drain();
}

constexpr Step kSteps[] = {Type, Type, Type, Type, Type, Type, TypeAhead, TypeAhead, TypeAhead, Print, Print, Print, Settings, Settings, Flow, Sti, Packet, Window, Rest, Rest, LongLine, FloodIn, FloodOut, BadRoom};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  setvbuf(stdout, nullptr, _IOFBF, 1 << 16);
  if (fork() != 0) {
    int status = 0;
    wait(&status);
    return status != 0;
  }
  setsid();
  for (const int signo : {SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGHUP, SIGCONT, SIGTTIN, SIGTTOU}) {
    struct sigaction act = {};
    act.sa_handler = Count, act.sa_flags = SA_RESTART;
    sigaction(signo, &act, nullptr);
  }
  if (openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) return 1;
  ioctl(slave, TIOCSCTTY, 0);
  fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK), fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
  return RunSteps(argc, argv, kSteps);
}
