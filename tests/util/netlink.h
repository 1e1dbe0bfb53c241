// A small netlink client for tests, and a network namespace of the test's own.
#ifndef RINGWALL_TESTS_UTIL_NETLINK_H_
#define RINGWALL_TESTS_UTIL_NETLINK_H_

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/util/test_util.h"

namespace ringwall::test {

// Moves the calling process to a fresh network namespace, once. Where namespaces are refused with
// EINVAL the process is inside the sandbox, which has one of its own already. False: no right to.
inline bool EnterOwnNet() {
  static const bool entered = [] {
    if (unshare(CLONE_NEWNET) != 0 && errno != EINVAL) return false;
    Fd s(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!s.ok()) s.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq r = {};
    strcpy(r.ifr_name, "lo");
    r.ifr_flags = IFF_UP;
    ioctl(s.get(), SIOCSIFFLAGS, &r);
    return true;
  }();
  return entered;
}

class Request {
 public:
  Request(uint16_t type, uint16_t flags) {
    nlmsghdr h = {};
    h.nlmsg_type = type;
    h.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
    h.nlmsg_seq = 7;
    Raw(&h, sizeof(h));
  }
  template <typename T>
  Request& Put(const T& v) {
    Raw(&v, sizeof(v));
    return *this;
  }
  Request& Attr(uint16_t type, const void* data, size_t size) {
    const rtattr a = {static_cast<uint16_t>(sizeof(rtattr) + size), type};
    Raw(&a, sizeof(a));
    Raw(data, size);
    return *this;
  }
  Request& Text(uint16_t type, const std::string& s) { return Attr(type, s.c_str(), s.size() + 1); }
  Request& U32(uint16_t type, uint32_t v) { return Attr(type, &v, sizeof(v)); }
  Request& Ip(uint16_t type, const char* text) {
    uint8_t a[16];
    if (inet_pton(AF_INET, text, a) == 1) return Attr(type, a, 4);
    EXPECT_EQ(inet_pton(AF_INET6, text, a), 1) << text;
    return Attr(type, a, 16);
  }
  // Attributes of an attribute.
  Request& Nest(uint16_t type, const std::function<void(Request&)>& fill) {
    const size_t at = bytes_.size();
    const rtattr a = {0, type};
    Raw(&a, sizeof(a));
    fill(*this);
    const uint16_t size = static_cast<uint16_t>(bytes_.size() - at);
    memcpy(bytes_.data() + at, &size, sizeof(size));
    return *this;
  }
  const std::vector<char>& bytes() {
    const uint32_t size = static_cast<uint32_t>(bytes_.size());
    memcpy(bytes_.data(), &size, sizeof(size));
    return bytes_;
  }

 private:
  void Raw(const void* p, size_t n) {
    const char* c = static_cast<const char*>(p);
    bytes_.insert(bytes_.end(), c, c + n);
    bytes_.resize((bytes_.size() + 3) & ~size_t{3});
  }
  std::vector<char> bytes_;
};

struct Reply {
  nlmsghdr header;
  std::vector<char> payload;

  template <typename T>
  T As() const {
    T v = {};
    memcpy(&v, payload.data(), std::min(sizeof(T), payload.size()));
    return v;
  }
  // The attribute's bytes behind a head of n bytes; empty when it is not there.
  std::string Attr(size_t head, uint16_t type, bool* found = nullptr) const {
    size_t at = (head + 3) & ~size_t{3};
    if (found != nullptr) *found = false;
    while (at + sizeof(rtattr) <= payload.size()) {
      rtattr a;
      memcpy(&a, payload.data() + at, sizeof(a));
      if (a.rta_len < sizeof(a) || at + a.rta_len > payload.size()) break;
      if ((a.rta_type & NLA_TYPE_MASK) == type) {
        if (found != nullptr) *found = true;
        return {payload.data() + at + sizeof(a), a.rta_len - sizeof(a)};
      }
      at += (a.rta_len + 3u) & ~3u;
    }
    return {};
  }
  uint32_t U32(size_t head, uint16_t type) const {
    uint32_t v = 0;
    const std::string s = Attr(head, type);
    memcpy(&v, s.data(), std::min(sizeof(v), s.size()));
    return v;
  }
};

class Netlink {
 public:
  explicit Netlink(int protocol = NETLINK_ROUTE)
      : fd_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)) {
    sockaddr_nl a = {};
    a.nl_family = AF_NETLINK;
    EXPECT_OK(bind(fd_.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
    const timeval patience = {5, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }
  int fd() const { return fd_.get(); }
  uint32_t port() const {
    sockaddr_nl a = {};
    socklen_t n = sizeof(a);
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&a), &n);
    return a.nl_pid;
  }
  bool Send(Request& r) {
    return send(fd_.get(), r.bytes().data(), r.bytes().size(), 0) ==
           static_cast<ssize_t>(r.bytes().size());
  }
  // One datagram's messages.
  std::vector<Reply> Receive(int flags = 0) {
    std::vector<char> buf(65536);
    const ssize_t n = recv(fd_.get(), buf.data(), buf.size(), flags);
    std::vector<Reply> out;
    size_t at = 0;
    while (n > 0 && at + sizeof(nlmsghdr) <= static_cast<size_t>(n)) {
      Reply r;
      memcpy(&r.header, buf.data() + at, sizeof(r.header));
      if (r.header.nlmsg_len < sizeof(nlmsghdr)) break;
      r.payload.assign(buf.data() + at + sizeof(nlmsghdr), buf.data() + at + r.header.nlmsg_len);
      at += (r.header.nlmsg_len + 3u) & ~3u;
      out.push_back(std::move(r));
    }
    return out;
  }
  // Sends with NLM_F_ACK (give it to the request) and returns the errno of the answer.
  int Ask(Request r) {
    if (!Send(r)) return -1;
    for (const Reply& x : Receive()) {
      if (x.header.nlmsg_type == NLMSG_ERROR) return -x.As<nlmsgerr>().error;
    }
    return -2;
  }
  // The answers of a dump, without the end; its value goes to `done`.
  std::vector<Reply> Dump(Request r, int* done = nullptr) {
    std::vector<Reply> all;
    if (!Send(r)) return all;
    for (;;) {
      std::vector<Reply> some = Receive();
      if (some.empty()) return all;
      for (Reply& x : some) {
        if (x.header.nlmsg_type == NLMSG_DONE || x.header.nlmsg_type == NLMSG_ERROR) {
          if (done != nullptr) *done = -x.As<int32_t>();
          return all;
        }
        all.push_back(std::move(x));
      }
    }
  }

 private:
  Fd fd_;
};

inline Request MakeVeth(const char* name, const char* peer) {
  Request r(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  r.Put(ifinfomsg{}).Text(IFLA_IFNAME, name).Nest(IFLA_LINKINFO, [&](Request& i) {
    i.Text(IFLA_INFO_KIND, "veth").Nest(IFLA_INFO_DATA, [&](Request& d) {
      d.Nest(1, [&](Request& p) { p.Put(ifinfomsg{}).Text(IFLA_IFNAME, peer); });
    });
  });
  return r;
}

inline Request SetUp(int index, bool up) {
  ifinfomsg m = {};
  m.ifi_index = index;
  m.ifi_flags = up ? IFF_UP : 0;
  m.ifi_change = IFF_UP;
  Request r(RTM_NEWLINK, NLM_F_ACK);
  r.Put(m);
  return r;
}

inline Request DelLink(int index) {
  ifinfomsg m = {};
  m.ifi_index = index;
  Request r(RTM_DELLINK, NLM_F_ACK);
  r.Put(m);
  return r;
}

// A veth pair for the time of a test.
class Veth {
 public:
  explicit Veth(const char* name = "rwa", const char* peer = "rwb") {
    EXPECT_EQ(netlink_.Ask(MakeVeth(name, peer)), 0);
    index = static_cast<int>(if_nametoindex(name));
    this->peer = static_cast<int>(if_nametoindex(peer));
    EXPECT_NE(index, 0);
    EXPECT_NE(this->peer, 0);
  }
  ~Veth() { netlink_.Ask(DelLink(index)); }
  void Up() {
    EXPECT_EQ(netlink_.Ask(SetUp(index, true)), 0);
    EXPECT_EQ(netlink_.Ask(SetUp(peer, true)), 0);
  }
  int index = 0, peer = 0;

 private:
  Netlink netlink_;
};

}  // namespace ringwall::test

#endif  // RINGWALL_TESTS_UTIL_NETLINK_H_
