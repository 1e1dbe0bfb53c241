// unix_diag: AF_UNIX sockets for sock_diag (net/unix/diag.c).
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include "fs/netlink/route.h"
#include "fs/netlink/sock_diag.h"
#include "fs/unix/socket_list.h"

namespace ringwall::netlink {
namespace {

constexpr uint8_t kEstablished = 1, kClose = 7, kListen = 10;

uint8_t StateOf(const UnixSocketInfo& s) {
  return s.listening ? kListen : s.connected ? kEstablished : kClose;
}

void Fill(const Context& c, Builder& b, const UnixSocketInfo& s, uint32_t show) {
  unix_diag_msg m = {};
  m.udiag_family = AF_UNIX;
  m.udiag_type = static_cast<uint8_t>(s.type);
  m.udiag_state = StateOf(s);
  m.udiag_ino = static_cast<uint32_t>(s.inode);
  const uint64_t cookie = CookieOf(s.inode, s.cookie);
  m.udiag_cookie[0] = static_cast<uint32_t>(cookie);
  m.udiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
  b.Put(m);
  if ((show & UDIAG_SHOW_NAME) != 0 && !s.address.empty()) {
    b.Attribute(UNIX_DIAG_NAME,
                {reinterpret_cast<const uint8_t*>(s.address.data()), s.address.size()});
  }
  if ((show & UDIAG_SHOW_PEER) != 0 && s.peer_inode != 0) {
    b.U32(UNIX_DIAG_PEER, static_cast<uint32_t>(s.peer_inode));
  }
  if ((show & UDIAG_SHOW_ICONS) != 0 && s.listening) {
    std::vector<uint32_t> inodes;
    for (uint64_t i : s.pending_inodes) inodes.push_back(static_cast<uint32_t>(i));
    b.Attribute(UNIX_DIAG_ICONS,
                {reinterpret_cast<const uint8_t*>(inodes.data()), inodes.size() * 4});
  }
  if ((show & UDIAG_SHOW_RQLEN) != 0) {
    b.Value(UNIX_DIAG_RQLEN, unix_diag_rqlen{s.queued, s.listening ? s.backlog : 0});
  }
  if ((show & UDIAG_SHOW_MEMINFO) != 0) {
    const uint32_t mem[9] = {s.queued, 212992, 0, 212992, 0, 0, 0, 0, 0};
    b.Value(UNIX_DIAG_MEMINFO, mem);
  }
  b.U8(UNIX_DIAG_SHUTDOWN, static_cast<uint8_t>((s.read_shut ? 1 : 0) | (s.write_shut ? 2 : 0)));
  if ((show & 0x40 /* UDIAG_SHOW_UID */) != 0) b.U32(7 /* UNIX_DIAG_UID */, c.ShowUid(s.uid));
}

}  // namespace

Result<void> UnixDiag(Context& c) {
  if (c.message.payload.size() < sizeof(unix_diag_req)) return Errno(EINVAL);
  const unix_diag_req req = ReadAs<unix_diag_req>(c.message.payload);
  if (c.message.header.type == SOCK_DESTROY) return Errno(EOPNOTSUPP);
  const std::vector<UnixSocketInfo> all = ListUnixSockets(c.net);
  if ((c.message.header.flags & NLM_F_DUMP) != 0) {
    Builder b;
    for (const UnixSocketInfo& s : all) {
      if ((req.udiag_states & (1u << StateOf(s))) == 0) continue;
      c.BeginPart(b, SOCK_DIAG_BY_FAMILY);
      Fill(c, b, s, req.udiag_show);
      b.End();
    }
    return c.Dump(b.Take());
  }
  if (req.udiag_ino == 0) return Errno(EINVAL);
  const uint64_t cookie = req.udiag_cookie[0] | static_cast<uint64_t>(req.udiag_cookie[1]) << 32;
  for (const UnixSocketInfo& s : all) {
    if (static_cast<uint32_t>(s.inode) != req.udiag_ino) continue;
    if (cookie != ~uint64_t{0} && cookie != CookieOf(s.inode, s.cookie)) return Errno(ESTALE);
    c.Answer(SOCK_DIAG_BY_FAMILY, 0, [&](Builder& b) { Fill(c, b, s, req.udiag_show); });
    return {};
  }
  return Errno(ENOENT);
}

}  // namespace ringwall::netlink
