// AF_UNIX: socketpairs, named and abstract addresses, credentials and passed descriptors.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct Pair {
  Fd a, b;
  explicit Pair(int type) {
    int fds[2];
    if (socketpair(AF_UNIX, type, 0, fds) == 0) {
      a.Reset(fds[0]);
      b.Reset(fds[1]);
    }
  }
};

sockaddr_un Address(const std::string& path, socklen_t* size) {
  sockaddr_un a = {};
  a.sun_family = AF_UNIX;
  memcpy(a.sun_path, path.data(), path.size());
  *size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                 (path[0] == '\0' ? 0 : 1));
  return a;
}

int Bind(int fd, const std::string& path) {
  socklen_t size;
  const sockaddr_un a = Address(path, &size);
  return bind(fd, reinterpret_cast<const sockaddr*>(&a), size);
}

int Connect(int fd, const std::string& path) {
  socklen_t size;
  const sockaddr_un a = Address(path, &size);
  return connect(fd, reinterpret_cast<const sockaddr*>(&a), size);
}

TEST(UnixPairTest, StreamIsBytes) {
  Pair p(SOCK_STREAM);
  ASSERT_EQ(write(p.a.get(), "abc", 3), 3);
  ASSERT_EQ(write(p.a.get(), "def", 3), 3);
  char b[8];
  EXPECT_EQ(read(p.b.get(), b, 8), 6);
  EXPECT_EQ(write(p.b.get(), "back", 4), 4);
  EXPECT_EQ(read(p.a.get(), b, 8), 4);
}

TEST(UnixPairTest, DatagramsKeepBordersAndTruncate) {
  for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    Pair p(type);
    ASSERT_EQ(send(p.a.get(), "one", 3, 0), 3);
    ASSERT_EQ(send(p.a.get(), "three", 5, 0), 5);
    char b[8];
    EXPECT_EQ(recv(p.b.get(), b, 2, 0), 2);
    EXPECT_EQ(recv(p.b.get(), b, 2, MSG_TRUNC), 5);
    EXPECT_FAILS(recv(p.b.get(), b, 2, MSG_DONTWAIT), EAGAIN);
  }
}

TEST(UnixPairTest, PeekLeavesTheData) {
  Pair p(SOCK_STREAM);
  ASSERT_EQ(send(p.a.get(), "xyz", 3, 0), 3);
  char b[8];
  EXPECT_EQ(recv(p.b.get(), b, 2, MSG_PEEK), 2);
  EXPECT_EQ(recv(p.b.get(), b, 8, 0), 3);
}

TEST(UnixPairTest, WaitallWaitsForAll) {
  Pair p(SOCK_STREAM);
  std::thread writer([&] {
    for (int i = 0; i < 10; ++i) EXPECT_EQ(send(p.a.get(), "0123456789", 10, 0), 10);
  });
  char b[100];
  EXPECT_EQ(recv(p.b.get(), b, 100, MSG_WAITALL), 100);
  writer.join();
}

TEST(UnixPairTest, CloseGivesEofEpipeAndReset) {
  Pair p(SOCK_STREAM);
  p.b.Reset();
  char c;
  EXPECT_EQ(read(p.a.get(), &c, 1), 0);
  EXPECT_FAILS(send(p.a.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_TRUE(KilledBy(InChild([&] { return static_cast<int>(write(p.a.get(), "x", 1)); }), SIGPIPE));
  Pair q(SOCK_STREAM);
  ASSERT_EQ(write(q.a.get(), "unread", 6), 6);
  q.b.Reset();
  EXPECT_FAILS(read(q.a.get(), &c, 1), ECONNRESET);
}

TEST(UnixPairTest, ShutdownHalves) {
  Pair p(SOCK_STREAM);
  ASSERT_OK(shutdown(p.a.get(), SHUT_WR));
  char c;
  EXPECT_EQ(read(p.b.get(), &c, 1), 0);
  EXPECT_EQ(write(p.b.get(), "x", 1), 1);
  EXPECT_EQ(read(p.a.get(), &c, 1), 1);
  EXPECT_FAILS(send(p.a.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  pollfd f = {p.b.get(), POLLIN | POLLRDHUP, 0};
  EXPECT_EQ(poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLIN | POLLRDHUP);
  EXPECT_FAILS(shutdown(p.a.get(), 9), EINVAL);
}

TEST(UnixPairTest, FullBufferBlocksOrEagain) {
  Pair p(SOCK_STREAM);
  ASSERT_OK(fcntl(p.a.get(), F_SETFL, O_RDWR | O_NONBLOCK));
  const std::string chunk(65536, 'x');
  size_t total = 0;
  ssize_t n;
  while ((n = write(p.a.get(), chunk.data(), chunk.size())) > 0) total += n;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(total, 65536u);
  pollfd f = {p.a.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&f, 1, 0), 0);
  size_t back = 0;
  std::string sink(65536, 0);
  while (back < total) {
    n = read(p.b.get(), sink.data(), sink.size());
    ASSERT_GT(n, 0);
    back += n;
  }
  EXPECT_EQ(poll(&f, 1, 0), 1);
}

TEST(UnixPairTest, OptionsAndErrors) {
  Pair p(SOCK_SEQPACKET);
  int value = 0;
  socklen_t size = sizeof(value);
  ASSERT_OK(getsockopt(p.a.get(), SOL_SOCKET, SO_TYPE, &value, &size));
  EXPECT_EQ(value, SOCK_SEQPACKET);
  ASSERT_OK(getsockopt(p.a.get(), SOL_SOCKET, SO_DOMAIN, &value, &size));
  EXPECT_EQ(value, AF_UNIX);
  ASSERT_OK(getsockopt(p.a.get(), SOL_SOCKET, SO_ERROR, &value, &size));
  EXPECT_EQ(value, 0);
  EXPECT_FAILS(getsockopt(p.a.get(), SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
  ucred cred;
  size = sizeof(cred);
  ASSERT_OK(getsockopt(p.a.get(), SOL_SOCKET, SO_PEERCRED, &cred, &size));
  EXPECT_EQ(cred.pid, getpid());
  EXPECT_EQ(cred.uid, geteuid());
  int fds[2];
  EXPECT_FAILS(socketpair(AF_UNIX, 9, 0, fds), ESOCKTNOSUPPORT);
  EXPECT_FAILS(socketpair(AF_UNIX, SOCK_STREAM, 99, fds), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
  EXPECT_FAILS(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BadAddress()), EFAULT);
  EXPECT_FAILS(send(0, "x", 1, 0), ENOTSOCK);
  EXPECT_FAILS(send(999, "x", 1, 0), EBADF);
}

TEST(UnixPairTest, DescriptorsTravel) {
  Pair p(SOCK_STREAM);
  TempDir dir;
  Fd file(open(dir.File("f", "passed").c_str(), O_RDONLY));
  char data = 'd', control[CMSG_SPACE(2 * sizeof(int))] = {};
  iovec v = {&data, 1};
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = CMSG_SPACE(sizeof(int));
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  const int sent = file.get();
  memcpy(CMSG_DATA(c), &sent, sizeof(int));
  ASSERT_EQ(sendmsg(p.a.get(), &m, 0), 1);
  file.Reset();
  memset(control, 0, sizeof(control));
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(p.b.get(), &m, MSG_CMSG_CLOEXEC), 1);
  c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, SCM_RIGHTS);
  EXPECT_EQ(c->cmsg_len, CMSG_LEN(sizeof(int)));
  int got;
  memcpy(&got, CMSG_DATA(c), sizeof(int));
  Fd received(got);
  EXPECT_EQ(fcntl(got, F_GETFD), FD_CLOEXEC);
  char b[8];
  EXPECT_EQ(read(got, b, 8), 6);
}

TEST(UnixPairTest, DescriptorsThatNobodyTakesAreClosed) {
  Pipe pipe;
  {
    Pair p(SOCK_DGRAM);
    char data = 'd', control[CMSG_SPACE(sizeof(int))] = {};
    iovec v = {&data, 1};
    msghdr m = {};
    m.msg_iov = &v;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    const int sent = pipe.writer.get();
    memcpy(CMSG_DATA(c), &sent, sizeof(int));
    ASSERT_EQ(sendmsg(p.a.get(), &m, 0), 1);
    const int bad = 999;
    memcpy(CMSG_DATA(c), &bad, sizeof(int));
    EXPECT_FAILS(sendmsg(p.a.get(), &m, 0), EBADF);
  }
  pipe.writer.Reset();
  char c;
  EXPECT_EQ(read(pipe.reader.get(), &c, 1), 0);
}

TEST(UnixPairTest, CredentialsTravel) {
  Pair p(SOCK_DGRAM);
  const int on = 1;
  ASSERT_OK(setsockopt(p.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  char data, control[256];
  iovec v = {&data, 1};
  msghdr m = {};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, SCM_CREDENTIALS);
  ucred cred;
  memcpy(&cred, CMSG_DATA(c), sizeof(cred));
  EXPECT_EQ(cred.pid, getpid());
}

class UnixNamedTest : public ::testing::TestWithParam<bool> {
 protected:
  UnixNamedTest() {
    name_ = GetParam() ? std::string(1, '\0') + "ringwall-" + std::to_string(getpid()) : dir_ / "s";
  }
  TempDir dir_;
  std::string name_;
  Fd server_{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
};

TEST_P(UnixNamedTest, ConnectAcceptTalk) {
  ASSERT_OK(Bind(server_.get(), name_));
  ASSERT_OK(listen(server_.get(), 5));
  Fd client(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_OK(Connect(client.get(), name_));
  sockaddr_un peer;
  socklen_t size = sizeof(peer);
  Fd conn(accept4(server_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
  ASSERT_TRUE(conn.ok());
  EXPECT_EQ(size, sizeof(sa_family_t));
  size = sizeof(peer);
  ASSERT_OK(getpeername(client.get(), reinterpret_cast<sockaddr*>(&peer), &size));
  EXPECT_EQ(std::string(peer.sun_path, name_.size()), name_);
  EXPECT_EQ(write(client.get(), "hi", 2), 2);
  char b[4];
  EXPECT_EQ(read(conn.get(), b, 4), 2);
  EXPECT_FAILS(Connect(client.get(), name_), EISCONN);
}

TEST_P(UnixNamedTest, NameInUseAndRefusal) {
  Fd client(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FAILS(Connect(client.get(), name_), GetParam() ? ECONNREFUSED : ENOENT);
  ASSERT_OK(Bind(server_.get(), name_));
  Fd second(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FAILS(Bind(second.get(), name_), EADDRINUSE);
  EXPECT_FAILS(Connect(client.get(), name_), ECONNREFUSED);  // bound, not listening
  EXPECT_FAILS(Bind(server_.get(), name_ + "2"), EINVAL);
  ASSERT_OK(listen(server_.get(), 1));
  server_.Reset();
  EXPECT_FAILS(Connect(client.get(), name_), ECONNREFUSED);
}

TEST_P(UnixNamedTest, BacklogIsBounded) {
  ASSERT_OK(Bind(server_.get(), name_));
  ASSERT_OK(listen(server_.get(), 1));
  std::vector<Fd> clients;
  int made = 0;
  for (int i = 0; i < 10; ++i) {
    Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (Connect(client.get(), name_) == 0) {
      ++made;
      clients.push_back(std::move(client));
    } else {
      EXPECT_EQ(errno, EAGAIN);
    }
  }
  EXPECT_EQ(made, 2);  // backlog + 1
}

TEST_P(UnixNamedTest, BlockedAcceptWakes) {
  ASSERT_OK(Bind(server_.get(), name_));
  ASSERT_OK(listen(server_.get(), 1));
  std::thread connector([&] {
    Fd client(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_OK(Connect(client.get(), name_));
  });
  Fd conn(accept(server_.get(), nullptr, nullptr));
  EXPECT_TRUE(conn.ok());
  connector.join();
}

TEST_P(UnixNamedTest, DatagramsToAName) {
  Fd server(socket(AF_UNIX, SOCK_DGRAM, 0)), client(socket(AF_UNIX, SOCK_DGRAM, 0));
  ASSERT_OK(Bind(server.get(), name_));
  socklen_t size;
  const sockaddr_un to = Address(name_, &size);
  EXPECT_EQ(sendto(client.get(), "dg", 2, 0, reinterpret_cast<const sockaddr*>(&to), size), 2);
  char b[4];
  EXPECT_EQ(recv(server.get(), b, 4, 0), 2);
  EXPECT_FAILS(Connect(client.get(), name_ + "none"), GetParam() ? ECONNREFUSED : ENOENT);
  EXPECT_FAILS(send(client.get(), "x", 1, 0), ENOTCONN);
  Fd stream(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FAILS(Connect(stream.get(), name_), GetParam() ? ECONNREFUSED : EPROTOTYPE);
}

INSTANTIATE_TEST_SUITE_P(PathAndAbstract, UnixNamedTest, ::testing::Bool());

TEST(UnixNameTest, PathLivesOnAsASocketFile) {
  TempDir dir;
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_OK(Bind(s.get(), dir / "s"));
  struct stat st;
  ASSERT_OK(stat((dir / "s").c_str(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_FAILS(open((dir / "s").c_str(), O_RDWR), ENXIO);
  EXPECT_FAILS(listen(0, 1), ENOTSOCK);
  sockaddr_un a = {};
  a.sun_family = AF_UNIX;
  Fd t(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FAILS(bind(t.get(), reinterpret_cast<sockaddr*>(&a), 1), EINVAL);
  a.sun_family = AF_INET;
  EXPECT_FAILS(bind(t.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)), EINVAL);
}

TEST(UnixNameTest, AutobindGivesAnAbstractName) {
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un a = {};
  a.sun_family = AF_UNIX;
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t)));
  socklen_t size = sizeof(a);
  ASSERT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&a), &size));
  EXPECT_EQ(size, sizeof(sa_family_t) + 6);
  EXPECT_EQ(a.sun_path[0], '\0');
}

TEST(UnixNameTest, ManyMessagesWithOneCall) {
  Pair p(SOCK_DGRAM);
  char x[] = "abc";
  iovec v[3] = {{x, 1}, {x, 2}, {x, 3}};
  mmsghdr m[3] = {};
  for (int i = 0; i < 3; ++i) {
    m[i].msg_hdr.msg_iov = &v[i];
    m[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(sendmmsg(p.a.get(), m, 3, 0), 3);
  char y[3][4];
  iovec w[3] = {{y[0], 4}, {y[1], 4}, {y[2], 4}};
  for (int i = 0; i < 3; ++i) m[i].msg_hdr.msg_iov = &w[i];
  EXPECT_EQ(recvmmsg(p.b.get(), m, 3, 0, nullptr), 3);
  EXPECT_EQ(m[2].msg_len, 3u);
}

TEST(UnixBufferTest, SndbufBoundsAStream) {
  Pair p(SOCK_STREAM);
  int small = 4096;
  ASSERT_OK(setsockopt(p.a.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
  int is = 0;
  socklen_t size = sizeof(is);
  ASSERT_OK(getsockopt(p.a.get(), SOL_SOCKET, SO_SNDBUF, &is, &size));
  EXPECT_EQ(is, 8192);
  std::vector<char> block(1 << 20);
  const ssize_t n = send(p.a.get(), block.data(), block.size(), MSG_DONTWAIT);
  EXPECT_GT(n, 0);
  EXPECT_LT(n, 32768);
  EXPECT_FAILS(send(p.a.get(), block.data(), 1, MSG_DONTWAIT), EAGAIN);
  pollfd f = {p.a.get(), POLLOUT, 0};
  EXPECT_EQ(poll(&f, 1, 0), 0);
  int unread = 0;
  ASSERT_OK(ioctl(p.b.get(), FIONREAD, &unread));
  EXPECT_EQ(unread, n);
  ASSERT_OK(ioctl(p.a.get(), TIOCOUTQ, &unread));
  EXPECT_GE(unread, n);
  EXPECT_EQ(recv(p.b.get(), block.data(), block.size(), 0), n);
  EXPECT_EQ(poll(&f, 1, 10000), 1);
  ASSERT_OK(ioctl(p.a.get(), TIOCOUTQ, &unread));
  EXPECT_EQ(unread, 0);
}

TEST(UnixBufferTest, SmallMessagesCostMoreThanTheirBytes) {
  Pair p(SOCK_STREAM);
  int n = 0;
  while (send(p.a.get(), "x", 1, MSG_DONTWAIT) == 1) n++;
  EXPECT_GT(n, 100);
  EXPECT_LT(n, 2000);
}

TEST(UnixNameTest, AbstractNamesAreOfATypeEach) {
  const std::string name = std::string(1, '\0') + "ringwall-types-" + std::to_string(getpid());
  Fd stream(socket(AF_UNIX, SOCK_STREAM, 0)), datagram(socket(AF_UNIX, SOCK_DGRAM, 0));
  ASSERT_OK(Bind(stream.get(), name));
  ASSERT_OK(Bind(datagram.get(), name));
  Fd packets(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  EXPECT_FAILS(Connect(packets.get(), name), ECONNREFUSED);
  Fd other(socket(AF_UNIX, SOCK_DGRAM, 0));
  EXPECT_FAILS(Bind(other.get(), name), EADDRINUSE);
  EXPECT_OK(Connect(other.get(), name));
}

TEST(UnixDatagramTest, AFullReceiverWakesItsSender) {
  const std::string name = std::string(1, '\0') + "ringwall-full-" + std::to_string(getpid());
  Fd receiver(socket(AF_UNIX, SOCK_DGRAM, 0)), sender(socket(AF_UNIX, SOCK_DGRAM, 0));
  ASSERT_OK(Bind(receiver.get(), name));
  socklen_t size;
  const sockaddr_un to = Address(name, &size);
  int sent = 0;
  while (sendto(sender.get(), "x", 1, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to),
                size) == 1) {
    sent++;
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(sent, 0);
  std::thread blocked([&] {
    EXPECT_EQ(sendto(sender.get(), "last", 4, 0, reinterpret_cast<const sockaddr*>(&to), size), 4);
  });
  usleep(20000);
  char b[8];
  for (int i = 0; i < sent; i++) EXPECT_EQ(recv(receiver.get(), b, 8, 0), 1);
  EXPECT_EQ(recv(receiver.get(), b, 8, 0), 4);
  blocked.join();
}

TEST(UnixDatagramTest, AConnectedOneHearsItsPeerOnly) {
  const std::string name = std::string(1, '\0') + "ringwall-peer-" + std::to_string(getpid());
  Fd a(socket(AF_UNIX, SOCK_DGRAM, 0)), b(socket(AF_UNIX, SOCK_DGRAM, 0));
  Fd c(socket(AF_UNIX, SOCK_DGRAM, 0));
  ASSERT_OK(Bind(a.get(), name + "a"));
  ASSERT_OK(Bind(b.get(), name + "b"));
  ASSERT_OK(Connect(a.get(), name + "b"));
  EXPECT_FAILS(Connect(c.get(), name + "a"), EPERM);
  socklen_t size;
  const sockaddr_un to = Address(name + "a", &size);
  EXPECT_FAILS(sendto(c.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), size), EPERM);
  EXPECT_EQ(sendto(b.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), size), 1);
  // The peer goes: told once.
  b.Reset();
  EXPECT_FAILS(send(a.get(), "x", 1, 0), ECONNREFUSED);
  EXPECT_FAILS(send(a.get(), "x", 1, 0), ENOTCONN);
}

TEST(UnixShutdownTest, NeedsNoConnection) {
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_OK(shutdown(s.get(), SHUT_WR));
  EXPECT_FAILS(shutdown(s.get(), 3), EINVAL);
  Pair p(SOCK_SEQPACKET);
  ASSERT_OK(shutdown(p.a.get(), SHUT_WR));
  char b;
  EXPECT_EQ(recv(p.b.get(), &b, 1, MSG_DONTWAIT), 0);
  EXPECT_FAILS(send(p.a.get(), "x", 1, 0), EPIPE);
}

TEST(UnixPollTest, StatesOfAStream) {
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  pollfd f = {s.get(), POLLIN | POLLOUT | POLLRDHUP, 0};
  EXPECT_EQ(poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLOUT | POLLHUP);
  Pair p(SOCK_STREAM);
  f.fd = p.a.get();
  EXPECT_EQ(poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLOUT);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  p.b.Reset();  // with the byte unread
  EXPECT_EQ(poll(&f, 1, 0), 1);
  EXPECT_EQ(f.revents, POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR);
  char b;
  EXPECT_FAILS(recv(p.a.get(), &b, 1, 0), ECONNRESET);
  EXPECT_EQ(recv(p.a.get(), &b, 1, 0), 0);
}

void SendFd(int socket, int fd) {
  char control[CMSG_SPACE(sizeof(int))] = {}, text[] = "f";
  iovec iov = {text, 1};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  *c = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(c), &fd, sizeof(fd));
  EXPECT_EQ(sendmsg(socket, &m, 0), 1);
}

TEST(UnixRightsTest, RingsAreCollected) {
  Pipe pipe;
  {
    Pair p(SOCK_STREAM);
    // Each waits in the other's queue, and the pipe's end with them.
    SendFd(p.a.get(), p.a.get());
    SendFd(p.b.get(), p.b.get());
    SendFd(p.a.get(), pipe.writer.get());
  }
  pipe.writer.Reset();
  { Pair another(SOCK_STREAM); }  // whose end has the ring looked for
  char b;
  EXPECT_EQ(read(pipe.reader.get(), &b, 1), 0);
}

TEST(UnixRightsTest, LongRowsEnd) {
  Pair last(SOCK_DGRAM);
  for (int i = 0; i < 400; i++) {
    Pair next(SOCK_DGRAM);
    SendFd(next.a.get(), last.b.get());
    last = std::move(next);
  }
  SUCCEED();
}

TEST(UnixRightsTest, PeekGivesDescriptorsToo) {
  Pair p(SOCK_STREAM);
  Pipe pipe;
  SendFd(p.a.get(), pipe.writer.get());
  for (int flags : {int{MSG_PEEK}, 0}) {
    char control[CMSG_SPACE(sizeof(int))], text[4];
    iovec iov = {text, 4};
    msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof(control);
    ASSERT_EQ(recvmsg(p.b.get(), &m, flags), 1);
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    ASSERT_NE(c, nullptr);
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    Fd got(fd);
    EXPECT_EQ(write(got.get(), "x", 1), 1);
  }
}

TEST(UnixRightsTest, NoRoomTruncates) {
  Pair p(SOCK_STREAM);
  Pipe pipe;
  SendFd(p.a.get(), pipe.writer.get());
  char text[4];
  iovec iov = {text, 4};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
  EXPECT_EQ(m.msg_flags, MSG_CTRUNC);
}

TEST(UnixCredTest, UnaskedForCredentialsAreNobodys) {
  Pair p(SOCK_STREAM);
  ASSERT_EQ(send(p.a.get(), "x", 1, 0), 1);
  int on = 1;
  ASSERT_OK(setsockopt(p.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
  ASSERT_EQ(send(p.a.get(), "y", 1, 0), 1);
  for (int i = 0; i < 2; i++) {
    char control[CMSG_SPACE(sizeof(ucred))], text[4];
    iovec iov = {text, 4};
    msghdr m = {};
    m.msg_iov = &iov;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof(control);
    // Another sender's bytes are not read along.
    ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 1);
    ucred c;
    ASSERT_NE(CMSG_FIRSTHDR(&m), nullptr);
    memcpy(&c, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(c));
    EXPECT_EQ(c.pid, i == 0 ? 0 : getpid());
    EXPECT_EQ(c.uid, i == 0 ? 65534 : getuid());
  }
}

TEST(UnixSeqpacketTest, Details) {
  Pair p(SOCK_SEQPACKET);
  Fd fresh(socket(AF_UNIX, SOCK_SEQPACKET, 0));
  char b[8];
  EXPECT_FAILS(recv(fresh.get(), b, 8, 0), ENOTCONN);
  EXPECT_FAILS(send(fresh.get(), b, 8, 0), ENOTCONN);
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  EXPECT_EQ(sendto(p.a.get(), "xyz", 3, 0, reinterpret_cast<sockaddr*>(&to), 2), 3);
  iovec iov = {b, 8};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  ASSERT_EQ(recvmsg(p.b.get(), &m, 0), 3);
  EXPECT_EQ(m.msg_flags, 0);
}

TEST(UnixOptionTest, PeekOff) {
  Pair p(SOCK_STREAM);
  int off = 1;
  ASSERT_OK(setsockopt(p.b.get(), SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)));
  ASSERT_EQ(send(p.a.get(), "abcd", 4, 0), 4);
  char b[8] = {};
  EXPECT_EQ(recv(p.b.get(), b, 2, MSG_PEEK), 2);
  EXPECT_EQ(std::string(b, 2), "bc");
  EXPECT_EQ(recv(p.b.get(), b, 8, MSG_PEEK), 1);
  EXPECT_EQ(b[0], 'd');
  EXPECT_EQ(recv(p.b.get(), b, 8, 0), 4);
}

// Often enough that systrap has patched the calls.
TEST(UnixSocketTest, AnswersForMemoryThatCannotBeWrittenAreFaults) {
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
  const Fd a(pair[0]), b(pair[1]);
  void* const page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  for (int round = 0; round < 60; round++) {
    int type = 0;
    socklen_t length = sizeof(type);
    EXPECT_OK(getsockopt(a.get(), SOL_SOCKET, SO_TYPE, &type, &length));
    EXPECT_EQ(type, SOCK_SEQPACKET);
    EXPECT_FAILS(getsockopt(a.get(), SOL_SOCKET, SO_TYPE, page, &length), EFAULT);
    sockaddr_un name = {};
    length = sizeof(name);
    EXPECT_OK(getsockname(a.get(), reinterpret_cast<sockaddr*>(&name), &length));
    EXPECT_EQ(length, sizeof(sa_family_t));
    EXPECT_FAILS(getsockname(a.get(), static_cast<sockaddr*>(page), &length), EFAULT);
    EXPECT_FAILS(ioctl(a.get(), FIONREAD, page), EFAULT);
    char one[] = "first", two[5000] = "second", got[6000] = {};
    iovec out[] = {{one, 5}, {two, sizeof(two)}, {one, 5}}, in[] = {{got, 7}, {got + 7, 5990}};
    msghdr m = {};
    m.msg_iov = out, m.msg_iovlen = 3;
    EXPECT_EQ(sendmsg(a.get(), &m, 0), 5010);
    m.msg_iov = in, m.msg_iovlen = 2, m.msg_flags = -1;
    EXPECT_EQ(recvmsg(b.get(), &m, 0), 5010);
    EXPECT_EQ(m.msg_flags & ~MSG_EOR, 0);
    EXPECT_EQ(std::string(got, 11), "firstsecond");
    EXPECT_EQ(std::string(got + 5005), "first");
  }
  munmap(page, 4096);
}

}  // namespace
}  // namespace ringwall::test
