// NETLINK_SOCK_DIAG, NETLINK_GENERIC and NETLINK_KOBJECT_UEVENT.
#include <linux/genetlink.h>
#include <linux/inet_diag.h>
#include <linux/netlink_diag.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include "tests/util/netlink.h"

namespace ringwall::test {
namespace {

constexpr uint32_t kListen = 1 << 10, kEstablished = 1 << 1;

uint64_t InodeOf(int fd) {
  struct stat st;
  EXPECT_OK(fstat(fd, &st));
  return st.st_ino;
}

struct Server {
  Fd listener, client, accepted;
  uint16_t port = 0;
  Server() : listener(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in a = {};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
    EXPECT_OK(listen(listener.get(), 5));
    socklen_t n = sizeof(a);
    EXPECT_OK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&a), &n));
    port = ntohs(a.sin_port);
    client.Reset(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_OK(connect(client.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
    accepted.Reset(accept(listener.get(), nullptr, nullptr));
    EXPECT_TRUE(accepted.ok());
  }
};

Request Tcp(uint16_t flags, uint32_t states, uint8_t ext = 0) {
  inet_diag_req_v2 q = {};
  q.sdiag_family = AF_INET;
  q.sdiag_protocol = IPPROTO_TCP;
  q.idiag_states = states;
  q.idiag_ext = ext;
  Request r(SOCK_DIAG_BY_FAMILY, flags);
  r.Put(q);
  return r;
}

TEST(SockDiagTest, TcpSocketsAreListed) {
  Server s;
  Netlink nl(NETLINK_SOCK_DIAG);
  bool listener = false;
  for (const Reply& x : nl.Dump(Tcp(NLM_F_DUMP, kListen))) {
    EXPECT_EQ(x.header.nlmsg_type, SOCK_DIAG_BY_FAMILY);
    const inet_diag_msg m = x.As<inet_diag_msg>();
    EXPECT_EQ(m.idiag_state, 10);
    if (ntohs(m.id.idiag_sport) != s.port) continue;
    listener = true;
    EXPECT_EQ(m.idiag_family, AF_INET);
    EXPECT_EQ(m.id.idiag_src[0], htonl(INADDR_LOOPBACK));
    EXPECT_EQ(m.id.idiag_dport, 0);
    EXPECT_EQ(m.idiag_rqueue, 0u);
    EXPECT_EQ(m.idiag_wqueue, 5u);
    EXPECT_EQ(m.idiag_uid, getuid());
    EXPECT_EQ(m.idiag_inode, InodeOf(s.listener.get()));
  }
  EXPECT_TRUE(listener);
  int ends = 0;
  for (const Reply& x : nl.Dump(Tcp(NLM_F_DUMP, kEstablished, 1 << (INET_DIAG_INFO - 1)))) {
    const inet_diag_msg m = x.As<inet_diag_msg>();
    if (ntohs(m.id.idiag_sport) != s.port && ntohs(m.id.idiag_dport) != s.port) continue;
    ends++;
    EXPECT_TRUE(m.idiag_inode == InodeOf(s.client.get()) ||
                m.idiag_inode == InodeOf(s.accepted.get()));
    const std::string info = x.Attr(sizeof(m), INET_DIAG_INFO);
    ASSERT_GE(info.size(), 104u);
    EXPECT_EQ(info[0], 1);  // tcpi_state
    EXPECT_EQ(x.Attr(sizeof(m), INET_DIAG_SHUTDOWN), std::string(1, '\0'));
  }
  EXPECT_EQ(ends, 2);
}

TEST(SockDiagTest, QueuedBytesAreCounted) {
  Server s;
  ASSERT_EQ(send(s.client.get(), "12345", 5, 0), 5);
  Netlink nl(NETLINK_SOCK_DIAG);
  bool found = false;
  for (const Reply& x : nl.Dump(Tcp(NLM_F_DUMP, kEstablished))) {
    const inet_diag_msg m = x.As<inet_diag_msg>();
    if (ntohs(m.id.idiag_sport) != s.port) continue;
    found = true;
    EXPECT_EQ(m.idiag_rqueue, 5u);
  }
  EXPECT_TRUE(found);
}

TEST(SockDiagTest, FilterProgramsChoose) {
  Server s;
  Netlink nl(NETLINK_SOCK_DIAG);
  // sport == port
  struct {
    inet_diag_bc_op op, arg;
  } code = {{INET_DIAG_BC_S_GE, sizeof(code), sizeof(code) + 4}, {0, 0, s.port}};
  Request r = Tcp(NLM_F_DUMP, ~0u);
  r.Attr(INET_DIAG_REQ_BYTECODE, &code, sizeof(code));
  std::vector<Reply> got = nl.Dump(r);
  EXPECT_FALSE(got.empty());
  for (const Reply& x : got) {
    EXPECT_GE(ntohs(x.As<inet_diag_msg>().id.idiag_sport), s.port);
  }
  // Jumps that lead nowhere.
  code.op.yes = 3;
  Request bad = Tcp(NLM_F_DUMP, ~0u);
  bad.Attr(INET_DIAG_REQ_BYTECODE, &code, sizeof(code));
  EXPECT_EQ(nl.Ask(bad), EINVAL);
}

TEST(SockDiagTest, OneSocketByItsAddresses) {
  Server s;
  Netlink nl(NETLINK_SOCK_DIAG);
  inet_diag_req_v2 q = {};
  q.sdiag_family = AF_INET;
  q.sdiag_protocol = IPPROTO_TCP;
  q.idiag_states = ~0u;
  q.id.idiag_sport = htons(s.port);
  q.id.idiag_src[0] = htonl(INADDR_LOOPBACK);
  q.id.idiag_cookie[0] = q.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  Request r(SOCK_DIAG_BY_FAMILY, 0);
  r.Put(q);
  ASSERT_TRUE(nl.Send(r));
  std::vector<Reply> got = nl.Receive();
  ASSERT_EQ(got.size(), 1u);
  ASSERT_EQ(got[0].header.nlmsg_type, SOCK_DIAG_BY_FAMILY);
  EXPECT_EQ(got[0].As<inet_diag_msg>().idiag_state, 10);
  q.id.idiag_cookie[0] = 1;
  q.id.idiag_cookie[1] = 1;
  Request stale(SOCK_DIAG_BY_FAMILY, 0);
  EXPECT_EQ(nl.Ask(stale.Put(q)), ENOENT);
  q.id.idiag_sport = htons(1);
  Request absent(SOCK_DIAG_BY_FAMILY, 0);
  EXPECT_EQ(nl.Ask(absent.Put(q)), ENOENT);
}

TEST(SockDiagTest, Refusals) {
  Netlink nl(NETLINK_SOCK_DIAG);
  Request type(SOCK_DIAG_BY_FAMILY + 50, NLM_F_ACK);
  EXPECT_EQ(nl.Ask(type.Put(uint32_t{0})), EINVAL);
  Request empty(SOCK_DIAG_BY_FAMILY, NLM_F_ACK);
  EXPECT_EQ(nl.Ask(empty), EINVAL);
  Request cut(SOCK_DIAG_BY_FAMILY, NLM_F_ACK);
  sock_diag_req small = {AF_INET, IPPROTO_TCP};
  EXPECT_EQ(nl.Ask(cut.Put(small)), EINVAL);
  inet_diag_req_v2 q = {};
  q.sdiag_family = 200;
  Request family(SOCK_DIAG_BY_FAMILY, NLM_F_ACK);
  EXPECT_EQ(nl.Ask(family.Put(q)), EINVAL);
}

TEST(SockDiagTest, UnixSocketsAreListed) {
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  Fd a(pair[0]), b(pair[1]), listener(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  memcpy(name.sun_path + 1, "ringwall-diag", 13);
  ASSERT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), 2 + 14));
  ASSERT_OK(listen(listener.get(), 3));
  unix_diag_req q = {};
  q.sdiag_family = AF_UNIX;
  q.udiag_states = ~0u;
  q.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN;
  Request r(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  r.Put(q);
  Netlink nl(NETLINK_SOCK_DIAG);
  bool one = false, named = false;
  for (const Reply& x : nl.Dump(r)) {
    const unix_diag_msg m = x.As<unix_diag_msg>();
    if (m.udiag_ino == InodeOf(a.get())) {
      one = true;
      EXPECT_EQ(m.udiag_type, SOCK_STREAM);
      EXPECT_EQ(m.udiag_state, 1);
      EXPECT_EQ(x.U32(sizeof(m), UNIX_DIAG_PEER), InodeOf(b.get()));
    }
    if (m.udiag_ino == InodeOf(listener.get())) {
      named = true;
      EXPECT_EQ(m.udiag_state, 10);
      EXPECT_EQ(x.Attr(sizeof(m), UNIX_DIAG_NAME), std::string("\0ringwall-diag", 14));
      unix_diag_rqlen len;
      const std::string bytes = x.Attr(sizeof(m), UNIX_DIAG_RQLEN);
      ASSERT_EQ(bytes.size(), sizeof(len));
      memcpy(&len, bytes.data(), sizeof(len));
      EXPECT_EQ(len.udiag_wqueue, 3u);
    }
  }
  EXPECT_TRUE(one && named);
}

TEST(SockDiagTest, CookieIsTheSocketsOwn) {
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  ASSERT_OK(getsockopt(s.get(), SOL_SOCKET, SO_COOKIE, &cookie, &length));
  unix_diag_req q = {};
  q.sdiag_family = AF_UNIX;
  q.udiag_ino = static_cast<uint32_t>(InodeOf(s.get()));
  q.udiag_show = 0x40;  // UDIAG_SHOW_UID
  q.udiag_cookie[0] = static_cast<uint32_t>(cookie);
  q.udiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
  Request r(SOCK_DIAG_BY_FAMILY, 0);
  Netlink nl(NETLINK_SOCK_DIAG);
  ASSERT_TRUE(nl.Send(r.Put(q)));
  std::vector<Reply> got = nl.Receive();
  ASSERT_EQ(got.size(), 1u);
  ASSERT_EQ(got[0].header.nlmsg_type, SOCK_DIAG_BY_FAMILY);
  EXPECT_EQ(got[0].U32(sizeof(unix_diag_msg), 7 /* UNIX_DIAG_UID */), geteuid());
  q.udiag_cookie[0]++;
  Request stale(SOCK_DIAG_BY_FAMILY, 0);
  EXPECT_EQ(nl.Ask(stale.Put(q)), ESTALE);
  Server tcp;
  ASSERT_OK(getsockopt(tcp.listener.get(), SOL_SOCKET, SO_COOKIE, &cookie, &length));
  inet_diag_req_v2 i = {};
  i.sdiag_family = AF_INET;
  i.sdiag_protocol = IPPROTO_TCP;
  i.idiag_states = ~0u;
  i.id.idiag_sport = htons(tcp.port);
  i.id.idiag_src[0] = htonl(INADDR_LOOPBACK);
  i.id.idiag_cookie[0] = static_cast<uint32_t>(cookie);
  i.id.idiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
  Request one(SOCK_DIAG_BY_FAMILY, 0);
  ASSERT_TRUE(nl.Send(one.Put(i)));
  got = nl.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.nlmsg_type, SOCK_DIAG_BY_FAMILY);
}

TEST(GenericTest, ControllerKnowsItself) {
  Netlink nl(NETLINK_GENERIC);
  genlmsghdr h = {};
  h.cmd = CTRL_CMD_GETFAMILY;
  h.version = 1;
  Request r(GENL_ID_CTRL, 0);
  r.Put(h).Text(CTRL_ATTR_FAMILY_NAME, "nlctrl");
  ASSERT_TRUE(nl.Send(r));
  std::vector<Reply> got = nl.Receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.nlmsg_type, GENL_ID_CTRL);
  EXPECT_EQ(got[0].As<genlmsghdr>().cmd, CTRL_CMD_NEWFAMILY);
  uint16_t id = 0;
  memcpy(&id, got[0].Attr(4, CTRL_ATTR_FAMILY_ID).data(), sizeof(id));
  EXPECT_EQ(id, GENL_ID_CTRL);
  Request absent(GENL_ID_CTRL, NLM_F_ACK);
  absent.Put(h).Text(CTRL_ATTR_FAMILY_NAME, "nosuch");
  EXPECT_EQ(nl.Ask(absent), ENOENT);
  Request none(GENL_ID_CTRL, NLM_F_ACK);
  EXPECT_EQ(nl.Ask(none.Put(h)), EINVAL);
  Request family(0x7777, NLM_F_ACK);
  EXPECT_EQ(nl.Ask(family.Put(h)), ENOENT);
  Request dump(GENL_ID_CTRL, NLM_F_DUMP);
  EXPECT_FALSE(nl.Dump(dump.Put(h)).empty());
}

TEST(UeventTest, SocketOpensAndListens) {
  Fd s(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT));
  ASSERT_TRUE(s.ok());
  sockaddr_nl a = {};
  a.nl_family = AF_NETLINK;
  a.nl_groups = 1;
  EXPECT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&a), sizeof(a)));
  char b[16];
  EXPECT_FAILS(recv(s.get(), b, sizeof(b), MSG_DONTWAIT), EAGAIN);
}

}  // namespace
}  // namespace ringwall::test
