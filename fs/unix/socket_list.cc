#include "fs/unix/socket_list.h"

#include <map>

#include "fs/unix/unix_socket.h"

namespace ringwall {
namespace {

struct List {
  Mutex<LockClass::kLeaf> mu;
  std::vector<UnixSocket*> sockets GUARDED_BY(mu);
};

List& All() {
  static List* list = new List;
  return *list;
}

}  // namespace

void EnlistUnixSocket(UnixSocket& socket) {
  MutexLock lock(All().mu);
  All().sockets.push_back(&socket);
}

void DelistUnixSocket(UnixSocket& socket) {
  MutexLock lock(All().mu);
  std::erase(All().sockets, &socket);
}

std::vector<UnixSocketInfo> ListUnixSockets(NetNamespace& net) {
  std::vector<Ref<UnixSocket>> held;
  std::map<const UnixEndpoint*, uint32_t> peers;  // how many have it as their peer, from whatever namespace
  {
    MutexLock lock(All().mu);
    for (UnixSocket* s : All().sockets) {
      if (s->TryAddRef()) held.push_back(Ref<UnixSocket>::Adopt(s));
    }
  }
  for (const Ref<UnixSocket>& s : held) {
    std::deque<Ref<UnixEndpoint>> pending;
    {
      MutexLock lock(s->endpoint().mu);
      if (s->endpoint().peer) peers[s->endpoint().peer.get()]++;
      pending = s->endpoint().pending;
    }
    for (const Ref<UnixEndpoint>& p : pending) {
      MutexLock lock(p->mu);
      if (p->peer) peers[p->peer.get()]++;
    }
  }
  std::vector<UnixSocketInfo> out;
  for (const Ref<UnixSocket>& s : held) {
    if (&s->net() != &net) continue;
    UnixEndpoint& e = s->endpoint();
    UnixSocketInfo i;
    i.cookie = &e;
    i.refs = 2 + peers[&e];  // its file's, the table's, and those of who sends to it
    i.type = e.type;
    i.inode = e.inode;
    RefPtr<UnixEndpoint> peer;
    {
      MutexLock lock(e.mu);
      i.listening = e.listening;
      i.connected = e.connected;
      i.read_shut = e.receive_shut;
      i.write_shut = e.send_shut;
      i.address = e.address;
      i.uid = e.cred.uid;
      i.queued = static_cast<uint32_t>(e.listening ? e.pending.size() : e.queued);
      i.backlog = static_cast<uint32_t>(e.listening ? e.backlog : 0);
      for (const Ref<UnixEndpoint>& p : e.pending) i.pending_inodes.push_back(p->inode);
      peer = e.peer;
    }
    if (peer) i.peer_inode = peer->inode;
    out.push_back(std::move(i));
  }
  return out;
}

}  // namespace ringwall
