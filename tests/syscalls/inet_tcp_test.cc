// TCP sockets over the loopback: opening, data, ends, and what poll says of each.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <linux/sockios.h>

#include <atomic>
#include <thread>

#include "tests/util/inet_util.h"

namespace ringwall::test {
namespace {

class TcpTest : public ::testing::TestWithParam<int> {
 protected:
  int family() const { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Families, TcpTest, ::testing::Values(AF_INET, AF_INET6));

TEST_P(TcpTest, ConnectAcceptAndNames) {
  Fd listener = Listener(family());
  const Addr to = LocalOf(listener.get());
  EXPECT_NE(to.port(), 0);
  EXPECT_EQ(GetInt(listener.get(), SOL_SOCKET, SO_ACCEPTCONN), 1);
  Fd client(socket(family(), SOCK_STREAM, 0));
  EXPECT_FAILS(NoPeer(client.get()), ENOTCONN);
  ASSERT_OK(connect(client.get(), to.ptr(), to.size));
  Addr from;
  Fd server(accept4(listener.get(), from.ptr(), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(from.size, family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  EXPECT_EQ(from.port(), LocalOf(client.get()).port());
  EXPECT_EQ(PeerOf(client.get()).port(), to.port());
  EXPECT_EQ(PeerOf(server.get()).port(), from.port());
  EXPECT_EQ(fcntl(server.get(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(fcntl(server.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FAILS(connect(client.get(), to.ptr(), to.size), EISCONN);
  char b;
  EXPECT_FAILS(recv(server.get(), &b, 1, 0), EAGAIN);
}

TEST_P(TcpTest, AddressIsCutToTheRoom) {
  TcpPair p(family());
  Addr a;
  memset(&a.storage, 0x5a, sizeof(a.storage));
  a.size = 3;
  ASSERT_OK(getsockname(p.client.get(), a.ptr(), &a.size));
  EXPECT_EQ(a.size, family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  EXPECT_EQ(reinterpret_cast<unsigned char*>(&a.storage)[3], 0x5a);
  a.size = static_cast<socklen_t>(-1);
  EXPECT_FAILS(getsockname(p.client.get(), a.ptr(), &a.size), EINVAL);
  EXPECT_FAILS(getsockname(p.client.get(), a.ptr(), reinterpret_cast<socklen_t*>(8)), EFAULT);
}

TEST_P(TcpTest, StreamsOfAnySizeArriveInOrder) {
  TcpPair p(family());
  constexpr size_t kTotal = 3 << 20;
  std::thread writer([&] {
    std::vector<uint32_t> block(64 << 10);
    uint32_t next = 0;
    for (size_t sent = 0; sent < kTotal;) {
      for (uint32_t& v : block) v = next++;
      const char* at = reinterpret_cast<char*>(block.data());
      size_t left = block.size() * 4;
      while (left > 0) {
        const ssize_t n = write(p.client.get(), at, left);
        if (n <= 0) return;
        at += n;
        left -= static_cast<size_t>(n);
      }
      sent += block.size() * 4;
    }
    shutdown(p.client.get(), SHUT_WR);
  });
  std::vector<char> all;
  char b[70001];
  for (;;) {
    const ssize_t n = read(p.server.get(), b, sizeof(b));
    ASSERT_GE(n, 0);
    if (n == 0) break;
    all.insert(all.end(), b, b + n);
  }
  writer.join();
  ASSERT_EQ(all.size(), kTotal);
  for (uint32_t i = 0; i < kTotal / 4; i++) {
    uint32_t v;
    memcpy(&v, all.data() + i * 4, 4);
    ASSERT_EQ(v, i);
  }
}

// TCP_INQ: what is left behind a read; the end of the stream counts for a byte.
TEST_P(TcpTest, InqTellsWhatIsLeftAndOfTheEnd) {
  constexpr int kTcpInq = 36;
  TcpPair p(family());
  const int on = 1;
  ASSERT_OK(setsockopt(p.server.get(), IPPROTO_TCP, kTcpInq, &on, sizeof(on)));
  ASSERT_EQ(send(p.client.get(), "abcd", 4, 0), 4);
  ASSERT_OK(shutdown(p.client.get(), SHUT_WR));
  pollfd hangup = {p.server.get(), POLLRDHUP, 0};
  ASSERT_EQ(poll(&hangup, 1, -1), 1);
  const auto left = [&](size_t n) {
    char bytes[4];
    iovec v = {bytes, n};
    alignas(cmsghdr) char control[64];
    msghdr m = {};
    m.msg_iov = &v, m.msg_iovlen = 1;
    m.msg_control = control, m.msg_controllen = sizeof(control);
    EXPECT_EQ(recvmsg(p.server.get(), &m, 0), static_cast<ssize_t>(n));
    const cmsghdr* c = CMSG_FIRSTHDR(&m);
    int value = -1;
    if (c != nullptr && c->cmsg_type == kTcpInq) memcpy(&value, CMSG_DATA(c), sizeof(value));
    return value;
  };
  EXPECT_EQ(left(1), 4);
  EXPECT_EQ(left(3), 1);
}

TEST_P(TcpTest, ConnectToNobodyIsRefused) {
  Fd probe = Listener(family());
  const Addr to = LocalOf(probe.get());
  probe.Reset();
  Fd s(socket(family(), SOCK_STREAM, 0));
  EXPECT_FAILS(connect(s.get(), to.ptr(), to.size), ECONNREFUSED);
  EXPECT_EQ(GetInt(s.get(), SOL_SOCKET, SO_ERROR), 0);
  Fd n(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_FAILS(connect(n.get(), to.ptr(), to.size), EINPROGRESS);
  EXPECT_EQ(PollFor(n.get(), POLLOUT) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
  EXPECT_EQ(GetInt(n.get(), SOL_SOCKET, SO_ERROR), ECONNREFUSED);
  EXPECT_EQ(GetInt(n.get(), SOL_SOCKET, SO_ERROR), 0);
}

TEST_P(TcpTest, NonblockingConnectTellsByPoll) {
  Fd listener = Listener(family());
  const Addr to = LocalOf(listener.get());
  Fd s(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
  EXPECT_FAILS(connect(s.get(), to.ptr(), to.size), EINPROGRESS);
  EXPECT_EQ(PollFor(s.get(), POLLOUT), POLLOUT);
  EXPECT_EQ(GetInt(s.get(), SOL_SOCKET, SO_ERROR), 0);
  EXPECT_OK(connect(s.get(), to.ptr(), to.size));
  EXPECT_FAILS(connect(s.get(), to.ptr(), to.size), EISCONN);
}

TEST_P(TcpTest, ErrorsOfFreshSockets) {
  Fd s(socket(family(), SOCK_STREAM, 0));
  char b[4] = {};
  EXPECT_FAILS(recv(s.get(), b, 1, 0), ENOTCONN);
  EXPECT_FAILS(send(s.get(), b, 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_FAILS(accept(s.get(), nullptr, nullptr), EINVAL);
  EXPECT_EQ(PollFor(s.get(), POLLIN | POLLOUT | POLLRDHUP, 0), POLLOUT | POLLHUP);
  EXPECT_FAILS(shutdown(s.get(), 7), EINVAL);
  EXPECT_FAILS(shutdown(s.get(), SHUT_RDWR), ENOTCONN);  // and yet it is shut
  EXPECT_EQ(PollFor(s.get(), POLLIN | POLLOUT | POLLRDHUP, 0),
            POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  const Addr any = Addr::Any(family());
  EXPECT_FAILS(connect(s.get(), any.ptr(), 1), EINVAL);
  EXPECT_FAILS(connect(s.get(), any.ptr(), 4), EINVAL);
  EXPECT_FAILS(bind(s.get(), any.ptr(), 4), EINVAL);
  EXPECT_FAILS(bind(s.get(), any.ptr(), 200), EINVAL);
  Addr odd = any;
  odd.storage.ss_family = AF_UNIX;
  EXPECT_FAILS(connect(s.get(), odd.ptr(), odd.size), EAFNOSUPPORT);
  EXPECT_FAILS(bind(s.get(), odd.ptr(), odd.size), EAFNOSUPPORT);
}

TEST_P(TcpTest, ErrorsOfListeners) {
  Fd listener = Listener(family());
  Fd s(socket(family(), SOCK_STREAM, 0));
  const Addr somewhere = Addr::Loopback(family(), 1);
  EXPECT_FAILS(connect(listener.get(), somewhere.ptr(), somewhere.size), EISCONN);
  EXPECT_FAILS(recv(listener.get(), nullptr, 0, 0), ENOTCONN);
  EXPECT_FAILS(send(listener.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  Addr a = LocalOf(listener.get());
  EXPECT_FAILS(bind(s.get(), a.ptr(), a.size), EADDRINUSE);
  EXPECT_FAILS(bind(listener.get(), a.ptr(), a.size), EINVAL);
}

TEST_P(TcpTest, WriteAfterThePeerClosedRaisesSigpipe) {
  TcpPair p(family());
  p.server.Reset();
  EXPECT_EQ(PollFor(p.client.get(), POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
  char b;
  EXPECT_EQ(read(p.client.get(), &b, 1), 0);
  EXPECT_EQ(send(p.client.get(), "x", 1, MSG_NOSIGNAL), 1);  // answered by a reset
  EXPECT_TRUE(PollFor(p.client.get(), POLLIN) & POLLHUP);
  EXPECT_FAILS(send(p.client.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  static std::atomic<int> got;
  got = 0;
  struct sigaction old, sa = {};
  sa.sa_handler = [](int s) { got = s; };
  sigaction(SIGPIPE, &sa, &old);
  EXPECT_FAILS(write(p.client.get(), "x", 1), EPIPE);
  sigaction(SIGPIPE, &old, nullptr);
  EXPECT_EQ(got, SIGPIPE);
}

TEST_P(TcpTest, UnreadDataResetsThePeer) {
  TcpPair p(family());
  ASSERT_EQ(send(p.client.get(), "unread", 6, 0), 6);
  EXPECT_EQ(PollFor(p.server.get(), POLLIN), POLLIN);
  p.server.Reset();
  EXPECT_TRUE(PollFor(p.client.get(), 0) & POLLERR);
  char b;
  EXPECT_FAILS(read(p.client.get(), &b, 1), ECONNRESET);
  EXPECT_EQ(read(p.client.get(), &b, 1), 0);
}

TEST_P(TcpTest, LingerZeroResets) {
  TcpPair p(family());
  const linger l = {1, 0};
  ASSERT_OK(setsockopt(p.server.get(), SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
  p.server.Reset();
  EXPECT_TRUE(PollFor(p.client.get(), 0) & POLLHUP);
  EXPECT_EQ(GetInt(p.client.get(), SOL_SOCKET, SO_ERROR), ECONNRESET);
}

TEST_P(TcpTest, LingerWaitsForDelivery) {
  TcpPair p(family());
  const linger l = {1, 5};
  ASSERT_OK(setsockopt(p.client.get(), SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
  ASSERT_EQ(send(p.client.get(), "bye", 3, 0), 3);
  p.client.Reset();
  char b[8];
  EXPECT_EQ(read(p.server.get(), b, 8), 3);
  EXPECT_EQ(read(p.server.get(), b, 8), 0);
}

TEST_P(TcpTest, HalfClose) {
  TcpPair p(family());
  ASSERT_OK(shutdown(p.client.get(), SHUT_WR));
  EXPECT_FAILS(send(p.client.get(), "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(PollFor(p.server.get(), POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
  char b[8];
  EXPECT_EQ(recv(p.server.get(), b, 8, 0), 0);
  EXPECT_EQ(send(p.server.get(), "late", 4, 0), 4);
  EXPECT_EQ(recv(p.client.get(), b, 8, 0), 4);
  ASSERT_OK(shutdown(p.server.get(), SHUT_WR));
  EXPECT_EQ(recv(p.client.get(), b, 8, 0), 0);
  EXPECT_TRUE(PollFor(p.server.get(), POLLIN) & POLLHUP);
}

TEST_P(TcpTest, ShutdownReadEndsReads) {
  TcpPair p(family());
  ASSERT_OK(shutdown(p.client.get(), SHUT_RD));
  char b;
  EXPECT_EQ(recv(p.client.get(), &b, 1, 0), 0);
  EXPECT_EQ(PollFor(p.client.get(), POLLIN | POLLRDHUP, 0), POLLIN | POLLRDHUP);
}

TEST_P(TcpTest, ShutdownWakesABlockedReader) {
  TcpPair p(family());
  std::thread t([&] {
    char b;
    EXPECT_EQ(recv(p.client.get(), &b, 1, 0), 0);
  });
  usleep(20000);
  ASSERT_OK(shutdown(p.client.get(), SHUT_RD));
  t.join();
}

TEST_P(TcpTest, ShutdownWakesABlockedAccept) {
  Fd listener = Listener(family());
  std::thread t([&] { EXPECT_FAILS(accept(listener.get(), nullptr, nullptr), EINVAL); });
  usleep(20000);
  ASSERT_OK(shutdown(listener.get(), SHUT_RD));
  t.join();
}

TEST_P(TcpTest, PeekTruncWaitall) {
  TcpPair p(family());
  ASSERT_EQ(send(p.client.get(), "abcdef", 6, 0), 6);
  EXPECT_EQ(PollFor(p.server.get(), POLLIN), POLLIN);
  char b[16] = {};
  EXPECT_EQ(recv(p.server.get(), b, 3, MSG_PEEK), 3);
  EXPECT_EQ(std::string(b, 3), "abc");
  EXPECT_EQ(recv(p.server.get(), b, 6, MSG_PEEK), 6);
  // MSG_TRUNC throws bytes of a stream away.
  memset(b, 'z', sizeof(b));
  EXPECT_EQ(recv(p.server.get(), b, 2, MSG_TRUNC), 2);
  EXPECT_EQ(b[0], 'z');
  std::thread t([&] {
    usleep(20000);
    EXPECT_EQ(send(p.client.get(), "ghi", 3, 0), 3);
  });
  EXPECT_EQ(recv(p.server.get(), b, 7, MSG_WAITALL), 7);
  EXPECT_EQ(std::string(b, 7), "cdefghi");
  t.join();
  EXPECT_FAILS(recv(p.server.get(), b, 1, MSG_DONTWAIT), EAGAIN);
}

TEST_P(TcpTest, ReceiveTimeout) {
  TcpPair p(family());
  const timeval tv = {0, 30000};
  ASSERT_OK(setsockopt(p.client.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  char b;
  EXPECT_FAILS(recv(p.client.get(), &b, 1, 0), EAGAIN);
  EXPECT_FAILS(read(p.client.get(), &b, 1), EAGAIN);
  Fd listener = Listener(family());
  ASSERT_OK(setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  EXPECT_FAILS(accept(listener.get(), nullptr, nullptr), EAGAIN);
}

// With a timeout a signal's handler ends the call, whatever SA_RESTART says.
TEST_P(TcpTest, SignalsAndTimeouts) {
  TcpPair p(family());
  struct sigaction old, sa = {};
  sa.sa_handler = [](int) {};
  sa.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &sa, &old);
  const timeval tv = {5, 0};
  ASSERT_OK(setsockopt(p.client.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  const itimerval once = {{0, 0}, {0, 30000}};
  setitimer(ITIMER_REAL, &once, nullptr);
  char b;
  EXPECT_FAILS(recv(p.client.get(), &b, 1, 0), EINTR);
  // Without one it goes on.
  std::thread t([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    usleep(80000);
    EXPECT_EQ(send(p.client.get(), "x", 1, 0), 1);
  });
  setitimer(ITIMER_REAL, &once, nullptr);
  EXPECT_EQ(recv(p.server.get(), &b, 1, 0), 1);
  t.join();
  sigaction(SIGALRM, &old, nullptr);
}

TEST_P(TcpTest, SendBlocksUntilRead) {
  TcpPair p(family());
  ASSERT_OK(SetInt(p.client.get(), SOL_SOCKET, SO_SNDBUF, 8192));
  fcntl(p.client.get(), F_SETFL, O_NONBLOCK);
  std::vector<char> block(65536, 'x');
  size_t sent = 0;
  ssize_t n;
  while ((n = send(p.client.get(), block.data(), block.size(), 0)) > 0) {
    sent += static_cast<size_t>(n);
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(sent, 8192u);
  EXPECT_EQ(PollFor(p.client.get(), POLLOUT, 0), 0);
  fcntl(p.client.get(), F_SETFL, 0);
  std::thread t([&] { EXPECT_EQ(send(p.client.get(), block.data(), block.size(), 0), 65536); });
  size_t got = 0;
  while (got < sent + block.size()) {
    n = recv(p.server.get(), block.data(), block.size() / 2, 0);
    ASSERT_GT(n, 0);
    got += static_cast<size_t>(n);
  }
  t.join();
  EXPECT_EQ(got, sent + block.size());
}

TEST_P(TcpTest, QueuesTellTheirSizes) {
  TcpPair p(family());
  int n = -1;
  ASSERT_OK(ioctl(p.server.get(), FIONREAD, &n));
  EXPECT_EQ(n, 0);
  ASSERT_EQ(send(p.client.get(), "12345", 5, 0), 5);
  EXPECT_EQ(PollFor(p.server.get(), POLLIN), POLLIN);
  ASSERT_OK(ioctl(p.server.get(), SIOCINQ, &n));
  EXPECT_EQ(n, 5);
  ASSERT_OK(ioctl(p.client.get(), SIOCOUTQNSD, &n));
  EXPECT_EQ(n, 0);
  Fd listener = Listener(family());
  EXPECT_FAILS(ioctl(listener.get(), SIOCINQ, &n), EINVAL);
  EXPECT_FAILS(ioctl(listener.get(), SIOCOUTQ, &n), EINVAL);
  EXPECT_FAILS(ioctl(p.client.get(), FIONREAD, 8), EFAULT);
}

TEST_P(TcpTest, UrgentData) {
  TcpPair p(family());
  char b[8] = {};
  EXPECT_FAILS(recv(p.server.get(), b, 1, MSG_OOB), EINVAL);
  ASSERT_EQ(send(p.client.get(), "ab", 2, 0), 2);
  ASSERT_EQ(send(p.client.get(), "cX", 2, MSG_OOB), 2);
  ASSERT_EQ(send(p.client.get(), "de", 2, 0), 2);
  EXPECT_TRUE(PollFor(p.server.get(), POLLPRI) & POLLPRI);
  int mark = -1;
  ASSERT_OK(ioctl(p.server.get(), SIOCATMARK, &mark));
  EXPECT_EQ(mark, 0);
  EXPECT_EQ(recv(p.server.get(), b, 1, MSG_OOB | MSG_PEEK), 1);
  EXPECT_EQ(b[0], 'X');
  // A read stops at the mark.
  EXPECT_EQ(recv(p.server.get(), b, 8, 0), 3);
  EXPECT_EQ(std::string(b, 3), "abc");
  ASSERT_OK(ioctl(p.server.get(), SIOCATMARK, &mark));
  EXPECT_EQ(mark, 1);
  EXPECT_EQ(recv(p.server.get(), b, 1, MSG_OOB), 1);
  EXPECT_EQ(b[0], 'X');
  EXPECT_FAILS(recv(p.server.get(), b, 1, MSG_OOB), EINVAL);
  EXPECT_EQ(recv(p.server.get(), b, 8, 0), 2);
  EXPECT_EQ(std::string(b, 2), "de");
}

TEST_P(TcpTest, UrgentDataInline) {
  TcpPair p(family());
  ASSERT_OK(SetInt(p.server.get(), SOL_SOCKET, SO_OOBINLINE, 1));
  ASSERT_EQ(send(p.client.get(), "abX", 3, MSG_OOB), 3);
  EXPECT_TRUE(PollFor(p.server.get(), POLLPRI) & POLLPRI);
  char b[8] = {};
  EXPECT_FAILS(recv(p.server.get(), b, 1, MSG_OOB), EINVAL);
  EXPECT_EQ(recv(p.server.get(), b, 8, 0), 2);
  EXPECT_EQ(recv(p.server.get(), b, 8, 0), 1);
  EXPECT_EQ(b[0], 'X');
}

TEST_P(TcpTest, VectorsAndMessages) {
  TcpPair p(family());
  char x[] = "one", y[] = "twotwo", z[20] = {}, w[3] = {};
  iovec out[2] = {{x, 3}, {y, 6}};
  msghdr m = {};
  m.msg_iov = out;
  m.msg_iovlen = 2;
  ASSERT_EQ(sendmsg(p.client.get(), &m, 0), 9);
  EXPECT_EQ(PollFor(p.server.get(), POLLIN), POLLIN);
  iovec in[2] = {{w, 3}, {z, 20}};
  Addr from;
  msghdr r = {};
  r.msg_iov = in;
  r.msg_iovlen = 2;
  r.msg_name = from.ptr();
  r.msg_namelen = sizeof(from.storage);
  r.msg_flags = -1;
  EXPECT_EQ(recvmsg(p.server.get(), &r, 0), 9);
  EXPECT_EQ(std::string(w, 3) + z, "onetwotwo");
  EXPECT_EQ(r.msg_namelen, 0u);
  EXPECT_EQ(r.msg_flags, 0);
  m.msg_iovlen = 1025;
  EXPECT_FAILS(sendmsg(p.client.get(), &m, 0), EMSGSIZE);
  EXPECT_FAILS(recvmsg(p.client.get(), &m, 0), EMSGSIZE);
}

TEST_P(TcpTest, SendfileToASocket) {
  TcpPair p(family());
  TempDir dir;
  const std::string path = dir.path() + "/f";
  Fd f(open(path.c_str(), O_CREAT | O_RDWR, 0600));
  std::string text(100000, 'q');
  ASSERT_EQ(write(f.get(), text.data(), text.size()), 100000);
  std::thread t([&] {
    off_t at = 0;
    while (at < 100000) {
      if (sendfile(p.client.get(), f.get(), &at, 100000 - static_cast<size_t>(at)) <= 0) break;
    }
    shutdown(p.client.get(), SHUT_WR);
  });
  size_t got = 0;
  char b[9999];
  ssize_t n;
  while ((n = read(p.server.get(), b, sizeof(b))) > 0) got += static_cast<size_t>(n);
  t.join();
  EXPECT_EQ(got, text.size());
}

TEST_P(TcpTest, BacklogBoundsTheQueue) {
  Fd listener = Listener(family(), 1, SOCK_NONBLOCK);
  const Addr to = LocalOf(listener.get());
  std::vector<Fd> clients;
  int connected = 0;
  for (int i = 0; i < 4; i++) {
    Fd c(socket(family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
    EXPECT_FAILS(connect(c.get(), to.ptr(), to.size), EINPROGRESS);
    connected += PollFor(c.get(), POLLOUT, 30) == POLLOUT;
    clients.push_back(std::move(c));
  }
  EXPECT_EQ(connected, 2);
  for (int i = 0; i < 2; i++) {
    Fd s(accept(listener.get(), nullptr, nullptr));
    EXPECT_TRUE(s.ok());
  }
}

TEST_P(TcpTest, EdgeTriggeredEpoll) {
  TcpPair p(family());
  Fd ep(epoll_create1(0));
  epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {}};
  ASSERT_OK(epoll_ctl(ep.get(), EPOLL_CTL_ADD, p.server.get(), &e));
  ASSERT_EQ(epoll_wait(ep.get(), &e, 1, 1000), 1);
  EXPECT_EQ(e.events, static_cast<uint32_t>(EPOLLOUT));
  EXPECT_EQ(epoll_wait(ep.get(), &e, 1, 0), 0);
  ASSERT_EQ(send(p.client.get(), "x", 1, 0), 1);
  ASSERT_EQ(epoll_wait(ep.get(), &e, 1, 1000), 1);
  EXPECT_TRUE(e.events & EPOLLIN);
  EXPECT_EQ(epoll_wait(ep.get(), &e, 1, 0), 0);
  ASSERT_EQ(send(p.client.get(), "y", 1, 0), 1);
  ASSERT_EQ(epoll_wait(ep.get(), &e, 1, 1000), 1);
  p.client.Reset();
  ASSERT_EQ(epoll_wait(ep.get(), &e, 1, 1000), 1);
  EXPECT_TRUE(e.events & EPOLLRDHUP);
}

TEST_P(TcpTest, ManyConnectionsAtOnce) {
  Fd listener = Listener(family(), 64);
  const Addr to = LocalOf(listener.get());
  std::thread server([&] {
    for (int i = 0; i < 200; i++) {
      Fd s(accept(listener.get(), nullptr, nullptr));
      char b[16];
      const ssize_t n = read(s.get(), b, sizeof(b));
      EXPECT_EQ(write(s.get(), b, static_cast<size_t>(n)), n);
    }
  });
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; c++) {
    clients.emplace_back([&] {
      for (int i = 0; i < 50; i++) {
        Fd s(socket(family(), SOCK_STREAM, 0));
        EXPECT_OK(connect(s.get(), to.ptr(), to.size));
        char b[16];
        EXPECT_EQ(write(s.get(), "hello", 5), 5);
        EXPECT_EQ(read(s.get(), b, sizeof(b)), 5);
      }
    });
  }
  for (std::thread& t : clients) t.join();
  server.join();
}

TEST_P(TcpTest, ConnectUnspecDisconnects) {
  TcpPair p(family());
  sockaddr none = {};
  none.sa_family = AF_UNSPEC;
  ASSERT_OK(connect(p.client.get(), &none, sizeof(none)));
  EXPECT_FAILS(NoPeer(p.client.get()), ENOTCONN);
  char b;
  EXPECT_FAILS(recv(p.client.get(), &b, 1, 0), ECONNRESET);
  EXPECT_FAILS(recv(p.client.get(), &b, 1, 0), ENOTCONN);
  // The other side was reset.
  EXPECT_FAILS(recv(p.server.get(), &b, 1, 0), ECONNRESET);
  // And the socket can connect again.
  Fd listener = Listener(family());
  const Addr to = LocalOf(listener.get());
  EXPECT_OK(connect(p.client.get(), to.ptr(), to.size));
}

TEST_P(TcpTest, ClosingAListenerResetsTheQueued) {
  Fd listener = Listener(family());
  const Addr to = LocalOf(listener.get());
  Fd c(socket(family(), SOCK_STREAM, 0));
  ASSERT_OK(connect(c.get(), to.ptr(), to.size));
  listener.Reset();
  char b;
  EXPECT_FAILS(recv(c.get(), &b, 1, 0), ECONNRESET);
}

TEST_P(TcpTest, ReuseRules) {
  Fd a(socket(family(), SOCK_STREAM, 0)), b(socket(family(), SOCK_STREAM, 0));
  const Addr any = Addr::Loopback(family());
  ASSERT_OK(SetInt(a.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  ASSERT_OK(bind(a.get(), any.ptr(), any.size));
  const Addr at = LocalOf(a.get());
  EXPECT_FAILS(bind(b.get(), at.ptr(), at.size), EADDRINUSE);
  ASSERT_OK(SetInt(b.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  EXPECT_OK(bind(b.get(), at.ptr(), at.size));
  ASSERT_OK(listen(a.get(), 1));
  EXPECT_FAILS(listen(b.get(), 1), EADDRINUSE);
  // SO_REUSEPORT shares among those that all set it.
  Fd c(socket(family(), SOCK_STREAM, 0)), d(socket(family(), SOCK_STREAM, 0));
  ASSERT_OK(SetInt(c.get(), SOL_SOCKET, SO_REUSEPORT, 1));
  ASSERT_OK(SetInt(d.get(), SOL_SOCKET, SO_REUSEPORT, 1));
  ASSERT_OK(bind(c.get(), any.ptr(), any.size));
  const Addr shared = LocalOf(c.get());
  ASSERT_OK(bind(d.get(), shared.ptr(), shared.size));
  EXPECT_OK(listen(c.get(), 1));
  EXPECT_OK(listen(d.get(), 1));
}

TEST(TcpDualTest, AnIpv6SocketTakesIpv4) {
  Fd s(socket(AF_INET6, SOCK_STREAM, 0));
  Addr any = Addr::Any(AF_INET6);
  ASSERT_OK(bind(s.get(), any.ptr(), any.size));
  ASSERT_OK(listen(s.get(), 4));
  const uint16_t port = LocalOf(s.get()).port();
  Fd c(socket(AF_INET, SOCK_STREAM, 0));
  const Addr to = Addr::V4(INADDR_LOOPBACK, port);
  ASSERT_OK(connect(c.get(), to.ptr(), to.size));
  Addr from;
  Fd server(accept(s.get(), from.ptr(), &from.size));
  ASSERT_TRUE(server.ok());
  EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&reinterpret_cast<sockaddr_in6*>(&from.storage)->sin6_addr));
  // The port is taken for IPv4 too.
  Fd other(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FAILS(bind(other.get(), to.ptr(), to.size), EADDRINUSE);
}

TEST(TcpDualTest, V6OnlyDoesNot) {
  Fd s(socket(AF_INET6, SOCK_STREAM, 0));
  ASSERT_OK(SetInt(s.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1));
  Addr any = Addr::Any(AF_INET6);
  ASSERT_OK(bind(s.get(), any.ptr(), any.size));
  EXPECT_FAILS(SetInt(s.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
  ASSERT_OK(listen(s.get(), 4));
  const Addr to = Addr::V4(INADDR_LOOPBACK, LocalOf(s.get()).port());
  Fd c(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FAILS(connect(c.get(), to.ptr(), to.size), ECONNREFUSED);
  Fd other(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_OK(bind(other.get(), to.ptr(), to.size));
}

TEST(TcpBindTest, Addresses) {
  Fd s(socket(AF_INET, SOCK_STREAM, 0));
  const Addr foreign = Addr::V4(0xc0000201, 0);  // 192.0.2.1
  EXPECT_FAILS(bind(s.get(), foreign.ptr(), foreign.size), EADDRNOTAVAIL);
  ASSERT_OK(SetInt(s.get(), IPPROTO_IP, IP_FREEBIND, 1));
  EXPECT_OK(bind(s.get(), foreign.ptr(), foreign.size));
  // AF_UNSPEC means AF_INET with the wildcard address only.
  Addr unspec = Addr::Any(AF_INET);
  unspec.storage.ss_family = AF_UNSPEC;
  Fd t(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_OK(bind(t.get(), unspec.ptr(), unspec.size));
  unspec = Addr::Loopback(AF_INET);
  unspec.storage.ss_family = AF_UNSPEC;
  Fd u(socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FAILS(bind(u.get(), unspec.ptr(), unspec.size), EAFNOSUPPORT);
  const Addr multicast = Addr::V4(0xe0000001, 4444);
  EXPECT_FAILS(connect(u.get(), multicast.ptr(), multicast.size), ENETUNREACH);
  // All of 127/8 is local.
  const Addr elsewhere = Addr::V4(0x7f010203, 0);
  EXPECT_OK(bind(u.get(), elsewhere.ptr(), elsewhere.size));
}

TEST(SocketTest, KindsAndErrors) {
  EXPECT_FAILS(socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
  EXPECT_FAILS(socket(9999, SOCK_STREAM, 0), EAFNOSUPPORT);
  EXPECT_FAILS(socket(AF_INET, 11, 0), EINVAL);
  EXPECT_FAILS(socket(AF_INET, SOCK_STREAM | 0x100, 0), EINVAL);
  EXPECT_FAILS(socket(AF_INET, SOCK_STREAM, -1), EINVAL);
  EXPECT_FAILS(socket(AF_INET, SOCK_STREAM, 4000), EINVAL);
  EXPECT_FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
  EXPECT_FAILS(socket(AF_INET, SOCK_RDM, 0), ESOCKTNOSUPPORT);
  EXPECT_FAILS(socket(AF_INET6, SOCK_RAW, 0), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(AF_UNIX, SOCK_STREAM, 5), EPROTONOSUPPORT);
  EXPECT_FAILS(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT);
  int fds[2];
  EXPECT_FAILS(socketpair(AF_INET, SOCK_STREAM, 0, fds), EOPNOTSUPP);
  EXPECT_FAILS(socketpair(AF_UNIX, SOCK_STREAM, 0, reinterpret_cast<int*>(8)), EFAULT);
  EXPECT_FAILS(accept4(0, nullptr, nullptr, 0x40), EINVAL);
  EXPECT_FAILS(listen(-1, 0), EBADF);
  Fd file(open("/dev/null", O_RDWR));
  EXPECT_FAILS(listen(file.get(), 0), ENOTSOCK);
  EXPECT_FAILS(send(file.get(), "x", 1, 0), ENOTSOCK);
  Fd udp(socket(AF_INET, SOCK_DGRAM, 0));
  EXPECT_FAILS(listen(udp.get(), 1), EOPNOTSUPP);
  EXPECT_FAILS(accept(udp.get(), nullptr, nullptr), EOPNOTSUPP);
}

}  // namespace
}  // namespace ringwall::test
