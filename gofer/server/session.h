// Session: what one client may ask and has open. Handle() answers one request with host calls; it
// takes bytes and gives bytes, and knows nothing of how they travel (server.h does).
// Thread-safe: each channel's thread calls Handle() with buffers of its own.
//
// The client is hostile. Every length, flag, name and handle is checked before the host is asked;
// what is wrong is an errno in the reply. All names are walked one component at a time with
// O_NOFOLLOW relative to a descriptor, so neither a name nor a link that somebody swaps in leads
// out of a root; openat2's RESOLVE_BENEATH would add nothing to that and needs Linux 5.6.
#ifndef RINGWALL_GOFER_SERVER_SESSION_H_
#define RINGWALL_GOFER_SERVER_SESSION_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "gofer/proto/codec.h"
#include "gofer/proto/message.h"
#include "gofer/proto/socket.h"
#include "gofer/server/handle_table.h"

namespace ringwall::gofer {

// A directory (or single file) of the host that the client may attach to.
struct Root {
  UniqueFd fd;  // O_PATH
  bool read_only = true;
  bool open_fifos = false;       // donate descriptors of host FIFOs
  bool connect_sockets = false;  // connect to host unix sockets
  bool bind_sockets = false;     // make host unix sockets
  // Nothing but nameless files may be made in it, nothing is shown: room on disk for who asks.
  bool nameless = false;
};

// How a session names a descriptor as a path, for the calls that take no descriptor (chmod, xattr,
// reopening). In the gofer the working directory is /proc/self/fd and `prefix` is empty.
struct ProcAccess {
  const char* prefix = "/proc/self/fd/";
  bool available = true;
};

struct SessionOptions {
  std::vector<Root> roots;
  uint32_t max_handles = 1 << 16;
  uint32_t max_channels = 0;
  ProcAccess proc;
};

// What a request answers with, beside its error. `scratch` is the calling thread's own.
struct Reply {
  Writer body;
  Descriptors fds;
  std::span<uint8_t> scratch;
};

inline constexpr size_t kScratchSize = 64 << 10;

class Session {
 public:
  explicit Session(SessionOptions options);

  // Answers `request`, whole and in private memory, by a message in `room` (at least
  // sizeof(ReplyHeader); may be shared memory) and descriptors in `fds`. Returns the reply's size,
  // 0 when the request is no message at all and the connection has to end.
  size_t Handle(std::span<const uint8_t> request, std::span<uint8_t> room,
                std::span<uint8_t> scratch, Descriptors* fds);

  // Called for Op::kOpenChannel. EMFILE when null or when no channel is left.
  using OpenChannelFn = Result<void> (*)(void* context, bool shared_memory, Descriptors* fds);
  void SetOpenChannel(OpenChannelFn fn, void* context) {
    open_channel_ = fn;
    open_channel_context_ = context;
  }

  const HandleTable& handles_for_test() const { return handles_; }

 private:
  using OpFn = Result<void> (Session::*)(Reader& in, Reply& out);
  static OpFn Find(uint16_t op);

  Result<void> Hello(Reader& in, Reply& out);
  Result<void> OpenChannel(Reader& in, Reply& out);
  Result<void> Attach(Reader& in, Reply& out);
  Result<void> Walk(Reader& in, Reply& out);
  Result<void> Peek(Reader& in, Reply& out);
  Result<void> Stat(Reader& in, Reply& out);
  Result<void> SetAttr(Reader& in, Reply& out);
  Result<void> Open(Reader& in, Reply& out);
  Result<void> Create(Reader& in, Reply& out);
  Result<void> Make(Reader& in, Reply& out);
  Result<void> Link(Reader& in, Reply& out);
  Result<void> Unlink(Reader& in, Reply& out);
  Result<void> Rename(Reader& in, Reply& out);
  Result<void> ReadLink(Reader& in, Reply& out);
  Result<void> ReadDir(Reader& in, Reply& out);
  Result<void> GetXattr(Reader& in, Reply& out);
  Result<void> SetXattr(Reader& in, Reply& out);
  Result<void> ListXattr(Reader& in, Reply& out);
  Result<void> RemoveXattr(Reader& in, Reply& out);
  Result<void> StatFs(Reader& in, Reply& out);
  Result<void> Fsync(Reader& in, Reply& out);
  Result<void> Fallocate(Reader& in, Reply& out);
  Result<void> Connect(Reader& in, Reply& out);
  Result<void> Bind(Reader& in, Reply& out);
  Result<void> Close(Reader& in, Reply& out);
  Result<void> Listen(Reader& in, Reply& out);

  // EBADF, or ENOTDIR.
  Result<Ref<FileHandle>> GetDir(HandleValue value) const;
  // EBADF, ENOTDIR, or EROFS.
  Result<Ref<FileHandle>> GetWritableDir(HandleValue value) const;
  Result<Ref<FileHandle>> GetWritable(HandleValue value) const;
  // The body of a request that is one HandleRequest.
  Result<Ref<FileHandle>> ReadHandle(Reader& in) const;
  Result<HandleValue> Keep(UniqueFd fd, const Root& root, uint32_t mode, uint64_t dev);

  // Opens the file of `handle` itself anew. Never a device; never waits for a FIFO's other end.
  Result<UniqueFd> Reopen(const FileHandle& handle, int flags) const;
  Result<UniqueFd> OpenForClient(const FileHandle& handle, uint32_t flags) const;
  // Opens dir/name, which was a regular file a moment ago, and checks that it still is one. `attr`: what
  // was opened.
  Result<UniqueFd> OpenRegularAt(int dir, const Name& name, const Root& root, uint32_t flags,
                                 Attr* attr) const;
  Result<UniqueFd> PathOf(int fd) const;
  // Opens what was just made at dir/name and gives it the owner and the set-id bits asked for.
  Result<UniqueFd> FinishNew(int dir, const Name& name, uint32_t mode, uint32_t uid, uint32_t gid,
                             Attr* attr) const;
  Result<void> ApplyOwner(int fd, uint32_t mode, uint32_t uid, uint32_t gid, Attr* attr) const;
  Result<Ref<FileHandle>> XattrTarget(const XattrRequest& request, std::string_view name,
                                      bool write) const;

  SessionOptions options_;
  HandleTable handles_;
  OpenChannelFn open_channel_ = nullptr;
  void* open_channel_context_ = nullptr;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_SERVER_SESSION_H_
