// libFuzzer: replies as a taken-over gofer could send them to the Sentry's client. Input: a byte
// that chooses the call, then the body of its reply (the header is made to fit).
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "gofer/client/channel.h"
#include "gofer/client/client.h"
#include "sentry/base/log.h"

namespace {

using namespace ringwall;
using namespace ringwall::gofer;

// Writes the replies before the client asks: a SOCK_SEQPACKET socket keeps them.
void Reply(int socket, uint64_t seq, std::span<const uint8_t> body, bool with_fd) {
  std::vector<uint8_t> bytes(sizeof(ReplyHeader) + body.size());
  Descriptors fds;
  if (with_fd) fds.Add(UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC)));
  Writer out(bytes);
  out.Put(
      ReplyHeader{.size = static_cast<uint32_t>(bytes.size()), .seq = seq, .fd_count = fds.count});
  std::copy(body.begin(), body.end(), bytes.begin() + sizeof(ReplyHeader));
  if (!SendMessage(socket, bytes, fds, Wait::kNo).ok()) ::abort();
}

template <typename T>
std::span<const uint8_t> BytesOf(const T& value) {
  return {static_cast<const uint8_t*>(static_cast<const void*>(&value)), sizeof(value)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > kMaxMessage - sizeof(ReplyHeader)) return 0;
  SetLogConfig({.fd = -1});
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) ::abort();
  UniqueFd server(pair[1]);
  // The client counts its requests from 1.
  Reply(server.get(), 1, BytesOf(HelloReply{.version = kProtocolVersion, .root_count = 1}), false);
  AttachReply attached;
  attached.node.handle = 1;
  attached.node.attr.mode = 0040755;
  Reply(server.get(), 2, BytesOf(attached), false);
  Reply(server.get(), 3, {data + 1, size - 1}, (data[0] & 0x80) != 0);

  Result<Ref<GoferClient>> created = GoferClient::Create(UniqueFd(pair[0]));
  if (!created.ok()) ::abort();
  GoferClient& client = **created;
  Result<AttachResult> root = client.Attach(0);
  if (!root.ok()) ::abort();
  const GoferHandle& file = root->node.handle;
  const std::string_view names[] = {"a", "b", "c"};
  switch (data[0] & 0x7f) {
    case 0:
      client.Walk(file, names, kWalkHandleAll | kWalkOpen, O_RDONLY).ok();
      break;
    case 1:
      client.Walk(file, names, kWalkHandleLast).ok();
      break;
    case 2:
      client.Walk(file, std::span(names).first(1), 0).ok();
      break;
    case 3:
      client.Stat(file).ok();
      break;
    case 4:
      client.Open(file, O_RDONLY).ok();
      break;
    case 5:
      client.Create(file, "n", O_RDWR, {}).ok();
      break;
    case 6:
      client.Mkdir(file, "n", {}).ok();
      break;
    case 7:
      client.ReadLink(file).ok();
      break;
    case 8:
      client.ReadDir(file, 0, true).ok();
      break;
    case 9:
      client.ReadDir(file, 0, false).ok();
      break;
    case 10:
      client.GetXattr(file, "user.a", 100).ok();
      break;
    case 11:
      client.XattrSize(file, "user.a").ok();
      break;
    case 12:
      client.ListXattr(file).ok();
      break;
    case 13:
      client.StatFs(file).ok();
      break;
    case 14:
      client.Unlink(file, "n").ok();
      break;
    case 15:
      client.Bind(file, "n", SOCK_STREAM, {}).ok();
      break;
    case 16:
      client.Connect(file, SOCK_STREAM).ok();
      client.Listen(file, 5).ok();
      break;
    case 17:
      client.Attach(0).ok();
      break;
    case 18:
      client.Peek(file, names, true).ok();
      break;
    case 19:
      client.Peek(file, names, false).ok();
      break;
    default:
      break;
  }
  return 0;
}
