// Random sequences on AF_UNIX sockets of all types, by pair, path, abstract name and none: every call in every
// state, with flags, descriptors and credentials passed along, options, queues and events.
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/differential/random_calls.h"

namespace ringwall::test {
namespace {

char buffer[1 << 18];
constexpr size_t kMost = sizeof(buffer);

void FillBuffer(size_t size) {
  for (size_t i = 0; i < size && i < 300; i++) buffer[i] = static_cast<char>(i * 7 + static_cast<size_t>(step_number));
}
// Names: 0 to 2 paths, 3 to 5 abstract ones that no other run uses, 6 autobind, then what is no name of a socket.
struct Name {
  sockaddr_un address;
  socklen_t length;
};
Name NameOf(uint32_t n) {
  Name name = {};
  name.address.sun_family = AF_UNIX;
  char* const path = name.address.sun_path;
  constexpr auto kHead = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path));
  if (n < 3) {
    name.length = kHead + static_cast<socklen_t>(snprintf(path, sizeof(name.address.sun_path), "s%u", n)) + 1;
    if (n == 1) name.length = sizeof(sockaddr_un);
    if (n == 2) name.length--;  // without its end
  } else if (n < 6) {
    name.length = kHead + 1 + static_cast<socklen_t>(snprintf(path + 1, sizeof(name.address.sun_path) - 1, "%08x%u", getpid(), n));
    if (n == 5) name.length = sizeof(sockaddr_un);
  } else if (n == 6) {
    name.length = kHead;
  } else if (n == 7) {
    memcpy(path, Pick("none", ".", "file", "no/ne"), 6);
    name.length = kHead + static_cast<socklen_t>(strlen(path)) + 1;
  } else if (n == 8) {
    name.address.sun_family = static_cast<sa_family_t>(Pick(AF_UNSPEC, AF_UNSPEC, AF_INET, 99));
    name.length = Pick<socklen_t>(2, 16, sizeof(sockaddr_un));
  } else {
    name.length = Pick<socklen_t>(0, 1, 111, 1000, static_cast<socklen_t>(-1));
  }
  return name;
}
uint32_t AnyName() { return OneIn(8) ? 6 + Below(4) : Below(6); }
void Show(const char* what, const sockaddr_storage& from, socklen_t room, socklen_t length) {
  printf(" %s %u", what, length);
  const auto* const address = reinterpret_cast<const sockaddr_un*>(&from);
  const socklen_t told = length < room ? length : room;
  if (told < 2) return;
  printf(" family %d", address->sun_family);
  if (told > 2 && address->sun_path[0] != 0) printf(" %.*s", static_cast<int>(told - 2), address->sun_path);
  if (told > 11 && address->sun_path[0] == 0) printf(" @%c", address->sun_path[9]);
}

int AnyType() { return Pick(SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET); }
void Make() {
  int two[2] = {-1, -1};
  switch (Below(9)) {
    case 0: case 1: case 2: {
      const int type = AnyType();
      Say("socketpair %d:", type);
      return KeepBoth("", socketpair(AF_UNIX, type | SOCK_NONBLOCK | Pick(0, SOCK_CLOEXEC), 0, two), two);
    }
    case 3: case 4: case 5: {
      const int type = OneIn(9) ? Pick(0, 3, 4, 6, 10, 11) : AnyType(), protocol = OneIn(9) ? Pick(1, 2, -1) : 0;
      Say("socket %d %d:", type, protocol);
      return MakeOne("", socket(AF_UNIX, type | SOCK_NONBLOCK, protocol));
    }
    case 6: return MakeOne("eventfd", eventfd(1, EFD_NONBLOCK));
    case 7: return KeepBoth("pipe", pipe2(two, O_NONBLOCK), two);
    default: {
      const int fd = memfd_create("m", 0);
      FillBuffer(300);
      write(fd, buffer, 5000);
      lseek(fd, 0, SEEK_SET);
      return MakeOne("memfd", fd);
    }
  }
}
int AnySocket() {
  for (int i = 0; i < 8; i++) {
    const int fd = AnyFd();
    if (fd < 0 || TypeOf(fd) == S_IFSOCK) return fd;
  }
  return AnyFd();
}
void Bind() {
  const uint32_t n = AnyName();
  const int fd = AnySocket();
  const Name name = NameOf(n);
  if (n < 3 && OneIn(2)) unlink(name.address.sun_path);
  Say("bind(%d, %u %u)", fd, n, name.length);
  Result(bind(fd, reinterpret_cast<const sockaddr*>(&name.address), name.length));
}
void Listen() {
  const int fd = AnySocket(), backlog = Pick(0, 1, 2, 5, -1);
  Say("listen(%d, %d)", fd, backlog);
  Result(listen(fd, backlog));
}
void Connect() {
  const uint32_t n = AnyName();
  const int fd = AnySocket();
  const Name name = NameOf(n);
  Say("connect(%d, %u %u)", fd, n, name.length);
  Result(connect(fd, reinterpret_cast<const sockaddr*>(&name.address), name.length));
}
void Accept() {
  const int fd = AnySocket();
  sockaddr_storage from = {};
  const socklen_t room = Pick<socklen_t>(0, 2, 5, sizeof(from), sizeof(from));
  socklen_t length = room;
  const bool ask = OneIn(2);
  // Never one that would wait.
  if (TypeOf(fd) != S_IFSOCK && fd >= 0) return;
  Say("accept4(%d)", fd);
  const int got = accept4(fd, ask ? reinterpret_cast<sockaddr*>(&from) : nullptr, ask ? &length : nullptr, SOCK_NONBLOCK | Pick(0, SOCK_CLOEXEC, 0) | (OneIn(20) ? 1 : 0));
  if (got >= 0 && ask) Show("from", from, room, length);
  Outcome(got);
  Keep(got);
}
void Shutdown() {
  const int fd = AnySocket(), how = OneIn(10) ? Pick(3, -1) : static_cast<int>(Below(3));
  Say("shutdown(%d, %d)", fd, how);
  Result(shutdown(fd, how));
}
size_t AnySize() { return Pick<size_t>(0, 1, 3, 10, 10, 100, 100, 300, 4096, 5000, 40000, 70000, 200000); }
int SendFlags() {
  int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
  if (OneIn(30)) flags |= MSG_OOB;
  if (OneIn(6)) flags |= Pick(MSG_EOR, MSG_MORE, MSG_PEEK, MSG_DONTROUTE, MSG_CONFIRM, MSG_TRUNC, MSG_WAITALL, static_cast<int>(MSG_ZEROCOPY), static_cast<int>(MSG_CMSG_CLOEXEC), MSG_ERRQUEUE);
  return flags;
}
int ReceiveFlags() {
  int flags = MSG_DONTWAIT;
  if (OneIn(4)) flags |= MSG_PEEK;
  if (OneIn(6)) flags |= MSG_TRUNC;
  if (OneIn(12)) flags |= MSG_OOB;
  if (OneIn(6)) flags |= MSG_WAITALL;
  if (OneIn(6)) flags |= Pick(static_cast<int>(MSG_CMSG_CLOEXEC), MSG_ERRQUEUE, MSG_CTRUNC, MSG_EOR, MSG_NOSIGNAL, MSG_DONTROUTE, static_cast<int>(MSG_WAITFORONE));
  return flags;
}

constexpr int kNull = kFirstSlot - 1;  // /dev/null
// What may be passed along: never a socket that others reach, as rings of them end at a time of their own.
int opened[300], opened_count;
int ToPass() {
  const int fd = AnyFd();
  if (fd < 0) return OneIn(3) ? fd : kNull;
  if (OneIn(10)) {
    int two[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, two) != 0) return kNull;
    close(two[1]);
    opened[opened_count++] = two[0];
    return two[0];
  }
  return TypeOf(fd) == S_IFSOCK ? kNull : fd;
}
struct Control {
  alignas(8) char bytes[8192];
  size_t size = 0;
  void Add(int level, int type, const void* data, size_t length, ssize_t claim = -1) {
    auto* const c = reinterpret_cast<cmsghdr*>(bytes + size);
    *c = {claim >= 0 ? static_cast<size_t>(claim) : CMSG_LEN(length), level, type};
    memcpy(CMSG_DATA(c), data, length);
    size += CMSG_SPACE(length);
  }
};
void MakeControl(Control* control) {
  memset(control->bytes, 0, sizeof(control->bytes));
  for (uint32_t n = Pick(0u, 0u, 0u, 1u, 1u, 2u); n > 0; n--) {
    switch (Below(9)) {
      case 0: case 1: case 2: case 3: {
        const uint32_t count = OneIn(30) ? Pick(253u, 254u, 255u) : Pick(0u, 1u, 1u, 2u, 3u, 7u);
        int fds[256];
        for (uint32_t i = 0; i < count; i++) fds[i] = count > 100 ? kNull : ToPass();
        printf(" rights %u", count);
        control->Add(SOL_SOCKET, SCM_RIGHTS, fds, count * sizeof(int));
        break;
      }
      case 4: case 5: case 6: {
        ucred cred = {getpid(), getuid(), getgid()};
        const uint32_t how = Below(6);
        if (how == 0) cred.pid = 1;
        if (how == 1) cred.uid = 12345;
        if (how == 2) cred.gid = 54321;
        if (how == 3 && OneIn(3)) cred.pid = 0;
        printf(" creds %u", how);
        control->Add(SOL_SOCKET, SCM_CREDENTIALS, &cred, sizeof(cred) - (OneIn(12) ? 4 : 0));
        break;
      }
      default: {
        const int level = Pick(SOL_SOCKET, 0, 6, SOL_SOCKET), type = Pick(3, 4, 5, 29, 37, 99);
        const ssize_t claim = OneIn(2) ? Pick<ssize_t>(0, 15, 16, 17, 100000) : -1;
        const int value = Pick(0, 1, 3);
        printf(" cmsg %d %d %zd", level, type, claim);
        control->Add(level, type, &value, sizeof(value), claim);
      }
    }
  }
}
void TellControl(const msghdr& m) {
  printf(" flags %x control %zu", static_cast<unsigned>(m.msg_flags), m.msg_controllen);
  const char* at = static_cast<const char*>(m.msg_control);
  if (at == nullptr) return;
  const char* const end = at + m.msg_controllen;
  while (end - at >= static_cast<ssize_t>(sizeof(cmsghdr))) {
    cmsghdr c;
    memcpy(&c, at, sizeof(c));
    printf(" [%d %d %zu", c.cmsg_level, c.cmsg_type, static_cast<size_t>(c.cmsg_len));
    const size_t room = static_cast<size_t>(end - at) - CMSG_LEN(0), have = c.cmsg_len < CMSG_LEN(0) ? 0 : c.cmsg_len - CMSG_LEN(0);
    const char* const data = at + CMSG_LEN(0);
    if (c.cmsg_level == SOL_SOCKET && c.cmsg_type == SCM_RIGHTS) {
      for (size_t i = 0; i + sizeof(int) <= have && i + sizeof(int) <= room; i += sizeof(int)) {
        int fd;
        memcpy(&fd, data + i, sizeof(fd));
        struct stat st = {};
        const int r = fstat(fd, &st);
        if (i < 40) printf(" %x:%d", r == 0 ? st.st_mode & S_IFMT : 0, fcntl(fd, F_GETFD));
        if (OneIn(3) && (st.st_mode & S_IFMT) != S_IFREG) {
          const int slot = kFirstSlot + static_cast<int>(Below(kSlots));
          dup3(fd, slot, O_CLOEXEC);
          printf(":%d", slot);
        }
        if (fd > 2) close(fd);
      }
    } else if (c.cmsg_level == SOL_SOCKET && c.cmsg_type == SCM_CREDENTIALS) {
      ucred cred = {};
      memcpy(&cred, data, have < sizeof(cred) ? have : sizeof(cred));
      printf(" %s %u %u", cred.pid == getpid() ? "own" : cred.pid == 0 ? "0" : "other", cred.uid, cred.gid);
    }
    printf("]");
    if (c.cmsg_len < sizeof(cmsghdr)) break;
    at += CMSG_ALIGN(c.cmsg_len);
  }
}
size_t Divide(iovec* parts, size_t size) {
  const size_t count = Pick<size_t>(1, 1, 2, 3);
  for (size_t i = 0, at = 0; i < count; i++) {
    const size_t n = i + 1 == count ? size - at : (size - at) / 2;
    parts[i] = {buffer + at, n};
    at += n;
  }
  return count;
}
struct Message {
  msghdr m = {};
  iovec parts[3];
  Name name;
  Control control;
  sockaddr_storage from;
};
// Newer kernels look later whether a datagram has a peer.
bool Alone(int fd) {
  int type = 0;
  socklen_t size = sizeof(type);
  getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
  return type == SOCK_DGRAM && getpeername(fd, nullptr, nullptr) == -1 && errno == ENOTCONN;
}
void PrepareSend(Message* x, int fd) {
  const size_t size = AnySize();
  FillBuffer(size);
  x->m.msg_iov = x->parts;
  x->m.msg_iovlen = Divide(x->parts, size);
  printf(" %zu", size);
  if (OneIn(3) || Alone(fd)) {
    const uint32_t n = AnyName();
    x->name = NameOf(n);
    if (x->name.length > 128) x->name.length = 128;
    x->m.msg_name = &x->name.address, x->m.msg_namelen = x->name.length;
    printf(" to %u %u", n, x->name.length);
  }
  MakeControl(&x->control);
  if (x->control.size != 0) x->m.msg_control = x->control.bytes, x->m.msg_controllen = x->control.size;
}
bool urgent = false;  // Kernels differ in how SIOCINQ counts once an urgent byte was taken.
void CloseOpened() {
  while (opened_count > 0) close(opened[--opened_count]);
}
Message messages[4];
void Send() {
  const int fd = AnySocket(), flags = SendFlags();
  const uint32_t count = OneIn(6) ? 1 + Below(4) : 1;
  Say("sendmsg(%d, %x", fd, static_cast<unsigned>(flags));
  mmsghdr all[4] = {};
  for (uint32_t i = 0; i < count; i++) {
    messages[i] = {};
    PrepareSend(&messages[i], fd);
    all[i].msg_hdr = messages[i].m;
  }
  printf(")");
  if ((flags & MSG_OOB) != 0) urgent = true;
  if (count == 1) {
    Result(sendmsg(fd, &messages[0].m, flags));
  } else {
    const int r = sendmmsg(fd, all, count, flags);
    for (int i = 0; i < r; i++) printf(" %u", all[i].msg_len);
    Result(r);
  }
  CloseOpened();
}
void Write() {
  const int fd = AnySocket();
  if (TypeOf(fd) != S_IFSOCK || Alone(fd)) return;
  const size_t size = AnySize();
  FillBuffer(size);
  Say("write(%d, %zu)", fd, size);
  Result(OneIn(2) ? write(fd, buffer, size) : send(fd, buffer, size, MSG_NOSIGNAL));
}
void PrepareReceive(Message* x) {
  const size_t size = OneIn(2) ? kMost : AnySize();
  x->m.msg_iov = x->parts;
  x->m.msg_iovlen = Divide(x->parts, size);
  printf(" %zu", size);
  if (OneIn(2)) x->m.msg_name = &x->from, x->m.msg_namelen = Pick<socklen_t>(0, 4, sizeof(x->from), sizeof(x->from));
  const size_t room = OneIn(3) ? Pick<size_t>(0, 8, 16, 20, 24, 28, 32, 40, 48, 56, 60) : OneIn(4) ? 0 : 4096;
  x->m.msg_control = x->control.bytes, x->m.msg_controllen = room;
  printf(" name %u room %zu", x->m.msg_namelen, room);
}
void TellReceived(const Message& x, const msghdr& m, socklen_t room, int64_t got) {
  if (m.msg_name != nullptr) Show("name", x.from, room, m.msg_namelen);
  TellControl(m);
  const size_t length = got < 0 ? 0 : static_cast<size_t>(got) < kMost ? static_cast<size_t>(got) : kMost;
  printf(" sum %x", Checksum({buffer, length < 300 ? length : 300}));
}
void Receive() {
  const int fd = AnySocket(), flags = ReceiveFlags();
  const uint32_t count = OneIn(6) ? 1 + Below(4) : 1;
  memset(buffer, 0, 300);
  Say("recvmsg(%d, %x", fd, static_cast<unsigned>(flags));
  mmsghdr all[4] = {};
  for (uint32_t i = 0; i < count; i++) {
    messages[i] = {};
    PrepareReceive(&messages[i]);
    all[i].msg_hdr = messages[i].m;
  }
  printf(")");
  if (count == 1) {
    const socklen_t room = messages[0].m.msg_namelen;
    const int64_t r = recvmsg(fd, &messages[0].m, flags);
    const int error = errno;
    if (r >= 0) TellReceived(messages[0], messages[0].m, room, r);
    errno = error;
    return Result(r);
  }
  const int r = recvmmsg(fd, all, count, flags, nullptr), error = errno;
  for (int i = 0; i < r; i++) {
    printf(" (%u", all[i].msg_len);
    TellReceived(messages[i], all[i].msg_hdr, messages[i].m.msg_namelen, 0);
    printf(")");
  }
  errno = error;
  Result(r);
}
void Read() {
  const int fd = AnySocket();
  if (TypeOf(fd) != S_IFSOCK) return;
  const size_t size = AnySize();
  memset(buffer, 0, 300);
  Say("read(%d, %zu)", fd, size);
  const int64_t r = OneIn(2) ? read(fd, buffer, size) : recv(fd, buffer, size, 0);
  if (r > 0) printf(" sum %x", Checksum({buffer, static_cast<size_t>(r < 300 ? r : 300)}));
  Result(r);
}
void FillUp() {
  const int fd = AnySocket();
  if (TypeOf(fd) != S_IFSOCK || Alone(fd)) return;
  const size_t size = Pick<size_t>(1000, 4096, 30000, 100000, 200000);
  Say("fill(%d, %zu)", fd, size);
  int64_t all = 0, r;
  int n = 0;
  while (n++ < 300 && (r = send(fd, buffer, size, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0) all += r;
  printf(" %ld", static_cast<long>(all));
  Result(r);
}
void Empty() {
  const int fd = AnySocket();
  if (TypeOf(fd) != S_IFSOCK) return;
  Say("empty(%d)", fd);
  int64_t all = 0, r;
  int n = 0;
  while (n++ < 400 && (r = recv(fd, buffer, kMost, MSG_DONTWAIT)) > 0) all += r;
  printf(" %ld", static_cast<long>(all));
  Result(r);
}
struct Option {
  int number;
  const char* name;
};
constexpr Option kOptions[] = {
    {SO_DEBUG, "DEBUG"}, {SO_REUSEADDR, "REUSEADDR"}, {SO_TYPE, "TYPE"}, {SO_ERROR, "ERROR"}, {SO_DONTROUTE, "DONTROUTE"},
    {SO_BROADCAST, "BROADCAST"}, {SO_SNDBUF, "SNDBUF"}, {SO_SNDBUF, "SNDBUF"}, {SO_RCVBUF, "RCVBUF"}, {SO_KEEPALIVE, "KEEPALIVE"}, {SO_OOBINLINE, "OOBINLINE"}, {SO_OOBINLINE, "OOBINLINE"},
    {SO_NO_CHECK, "NO_CHECK"}, {SO_PRIORITY, "PRIORITY"}, {SO_LINGER, "LINGER"}, {SO_REUSEPORT, "REUSEPORT"}, {SO_PASSCRED, "PASSCRED"}, {SO_PASSCRED, "PASSCRED"}, {SO_PASSCRED, "PASSCRED"},
    {SO_PEERCRED, "PEERCRED"}, {SO_PEERCRED, "PEERCRED"}, {SO_RCVLOWAT, "RCVLOWAT"}, {SO_SNDLOWAT, "SNDLOWAT"}, {SO_RCVTIMEO, "RCVTIMEO"}, {SO_SNDTIMEO, "SNDTIMEO"},
    {SO_PEERNAME, "PEERNAME"}, {SO_ACCEPTCONN, "ACCEPTCONN"}, {SO_PEERSEC, "PEERSEC"}, {SO_PROTOCOL, "PROTOCOL"}, {SO_DOMAIN, "DOMAIN"},
    {SO_RXQ_OVFL, "RXQ_OVFL"}, {SO_PEEK_OFF, "PEEK_OFF"}, {SO_PEEK_OFF, "PEEK_OFF"}, {SO_PEEK_OFF, "PEEK_OFF"}, {SO_NOFCS, "NOFCS"}, {SO_LOCK_FILTER, "LOCK_FILTER"}, {SO_SELECT_ERR_QUEUE, "SELECT_ERR_QUEUE"},
    {SO_BUSY_POLL, "BUSY_POLL"}, {SO_INCOMING_CPU, "INCOMING_CPU"}, {57, "COOKIE"}, {SO_PEERGROUPS, "PEERGROUPS"}, {SO_ZEROCOPY, "ZEROCOPY"}, {76, "PASSPIDFD"}, {77, "PEERPIDFD"}, {SO_MARK, "MARK"}, {61, "TXTIME"}, {68, "BINDTOIFINDEX"}, {73, "RESERVE_MEM"}, {74, "TXREHASH"}, {75, "RCVMARK"}, {200, "none"}};
void Get() {
  const int fd = AnySocket();
  const Option& o = kOptions[Below(std::size(kOptions))];
  char value[256] = {};
  const socklen_t room = OneIn(3) ? Pick<socklen_t>(0, 1, 2, 4, 8, 11) : 128;
  socklen_t size = room;
  const int level = OneIn(30) ? Pick(0, 6, 17, 2) : SOL_SOCKET;
  Say("getsockopt(%d, %d, %s, %u)", fd, level, o.name, room);
  const int r = getsockopt(fd, level, o.number, value, &size);
  if (r == 0) {
    printf(" size %u", size);
    int32_t words[4];
    memcpy(words, value, sizeof(words));
    if (o.number == SO_PEERCRED) {
      printf(" %s %d %d", size < 4 ? "-" : words[0] == getpid() ? "own" : words[0] == 0 ? "0" : "other", words[1], words[2]);
    } else if (o.number == 77) {
      printf(" %x", fcntl(words[0], F_GETFD));
      close(words[0]);
    } else if (o.number == SO_PEERNAME) {
      sockaddr_storage from = {};
      memcpy(&from, value, sizeof(from));
      Show("", from, room, size);
    } else if (o.number != 57 && o.number != SO_INCOMING_CPU && o.number != SO_PEERSEC) {
      printf(" %d %d", words[0], words[1]);
    }
  }
  Result(r);
}
void Set() {
  const int fd = AnySocket();
  const Option& o = kOptions[Below(std::size(kOptions))];
  if (o.number == SO_RCVTIMEO || o.number == SO_SNDTIMEO || o.number == SO_MARK || o.number == SO_PRIORITY || o.number == SO_LINGER) return;
  const int value = o.number == SO_SNDBUF ? Pick(0, 1000, 5000, 20000, 60000, 100000) : Pick(0, 1, 1, 1, 2, 5, 100, -1);
  const socklen_t size = OneIn(8) ? Pick<socklen_t>(0, 1, 3, 8) : 4;
  const int two[2] = {value, 0};
  Say("setsockopt(%d, %s, %d, %u)", fd, o.name, value, size);
  Result(setsockopt(fd, SOL_SOCKET, o.number, two, size));
}
void Names() {
  const int fd = AnySocket();
  sockaddr_storage from = {};
  const socklen_t room = Pick<socklen_t>(0, 1, 2, 4, 10, sizeof(from), sizeof(from), sizeof(from), static_cast<socklen_t>(-1));
  socklen_t length = room;
  const bool peer = OneIn(2);
  Say("%s(%d, %u)", peer ? "getpeername" : "getsockname", fd, room);
  const int r = (peer ? getpeername : getsockname)(fd, reinterpret_cast<sockaddr*>(&from), &length);
  if (r == 0) Show("", from, room, length);
  Result(r);
}
void Queues() {
  const int fd = AnySocket();
  if (TypeOf(fd) != S_IFSOCK) return;
  int value = -7;
  const auto which = Pick<unsigned long>(SIOCINQ, SIOCINQ, SIOCATMARK, SIOCOUTQ, SIOCGIFCONF + 100, FIONBIO);
  if (which == FIONBIO) value = 1;
  if (which == SIOCINQ && urgent) return;
  Say("ioctl(%d, %lx)", fd, which);
  const int r = ioctl(fd, which, &value);
  // What the memory of a message counts for differs among kernels.
  if (r == 0) printf(" %d", which == SIOCOUTQ ? value != 0 : value);
  Result(r);
}
void Poll() {
  pollfd all[kSlots];
  Say("poll");
  int n = 0;
  for (int i = 0; i < kSlots; i++) {
    if (TypeOf(kFirstSlot + i) == S_IFSOCK) all[n++] = {kFirstSlot + i, 0x3fff, 0};
  }
  const int r = poll(all, static_cast<nfds_t>(n), 0);
  for (int i = 0; i < n; i++) printf(" %d:%x", all[i].fd, static_cast<unsigned>(all[i].revents));
  Result(r);
}
void Splice() {
  const int from = AnyFd(), to = AnyFd();
  const size_t size = Pick<size_t>(1, 100, 5000, 70000);
  if (TypeOf(from) == 0 || TypeOf(to) == 0 || Alone(to)) return;
  if (OneIn(3)) {
    if (TypeOf(from) != S_IFREG || TypeOf(to) == S_IFREG) return;
    off_t at = 0;
    Say("sendfile(%d, %d, %zu)", to, from, size);
    return Result(sendfile(to, from, &at, size));
  }
  if (TypeOf(to) == S_IFREG) return;
  Say("splice(%d, %d, %zu)", from, to, size);
  Result(splice(from, nullptr, to, nullptr, size, SPLICE_F_NONBLOCK));
}
// Its line in /proc/net/unix, without address and number.
void Line() {
  const int fd = AnySocket();
  struct stat st;
  if (TypeOf(fd) != S_IFSOCK || fstat(fd, &st) != 0) return;
  FILE* const f = fopen("/proc/net/unix", "re");
  if (f == nullptr) return;
  char line[512];
  Say("line(%d)", fd);
  while (fgets(line, sizeof(line), f) != nullptr) {
    unsigned references, protocol, flags, type, state;
    unsigned long inode;
    int at = 0;
    if (sscanf(line, "%*[^:]: %x %x %x %x %x %lu%n", &references, &protocol, &flags, &type, &state, &inode, &at) != 6 || inode != st.st_ino) continue;
    // One that datagrams are sent to counts as connected since it was first so.
    printf(" %x %x %x %x %x", references, protocol, flags, type, type == SOCK_DGRAM ? 0 : state);
    if (line[at] == ' ' && line[at + 1] != '@') printf("%.*s", static_cast<int>(strcspn(line + at, "\n")), line + at);
    if (line[at] == ' ' && line[at + 1] == '@') printf(" @%zu", strcspn(line + at, "\n"));
  }
  printf("\n");
  fclose(f);
}

constexpr Step kSteps[] = {Make, Make, Make, Bind, Bind, Listen, Listen, Connect, Connect, Connect, Accept, Accept, Accept, Shutdown, Send, Send, Send, Send, Send, Send, Write, Write, Write,
                           Receive, Receive, Receive, Receive, Receive, Receive, Read, Read, FillUp, Empty, Get, Get, Set, Set, Names, Names, Queues, Queues, Poll, Poll, Poll, Splice, Line, Dup, Close};

}  // namespace
}  // namespace ringwall::test

int main(int argc, char** argv) {
  using namespace ringwall::test;
  signal(SIGPIPE, SIG_IGN), signal(SIGURG, SIG_IGN);
  close(open("file", O_CREAT | O_WRONLY, 0600));
  dup3(open("/dev/null", O_RDWR | O_CLOEXEC), kNull, O_CLOEXEC);
  if (argc == 3) random_state = strtoull(argv[1], nullptr, 0) + 77;
  for (int i = 0; i < 20; i++) Make();
  return RunSteps(argc, argv, kSteps);
}
