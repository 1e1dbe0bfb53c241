// GoferClient: the Sentry's way to the host's files. Every call is one round trip to the gofer
// process and blocks for it (and for nothing else: the server never waits for a FIFO or a lock).
// Thread-safe; parallel calls travel on channels of their own. README.md has the rules and
// examples.
//
// The gofer is trusted for contents only. A reply that is not exactly what was asked for is EIO,
// and breaks the connection: every later call is EIO at once.
//
// Lock order: a call takes LockClass::kGofer for moments only and holds nothing while it waits.
#ifndef RINGWALL_GOFER_CLIENT_CLIENT_H_
#define RINGWALL_GOFER_CLIENT_CLIENT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gofer/proto/message.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

class Call;
class ClientChannel;
class GoferClient;

// Owns one host file that the gofer holds for us. Dropping it queues a close (GoferClient::Close).
// Movable; the host file stays the same one however it is renamed.
class GoferHandle {
 public:
  GoferHandle() = default;
  GoferHandle(RefPtr<GoferClient> client, HandleValue value);
  GoferHandle(GoferHandle&& o) noexcept;
  GoferHandle& operator=(GoferHandle&& o) noexcept;
  ~GoferHandle();

  bool valid() const { return value_ != 0; }
  explicit operator bool() const { return valid(); }
  HandleValue value() const { return value_; }
  void reset();

 private:
  RefPtr<GoferClient> client_;
  HandleValue value_ = 0;
};

// A file as a call finds it. Without a handle when none was asked for.
struct GoferNode {
  GoferHandle handle;
  Attr attr;
};

struct AttachResult {
  GoferNode node;
  bool read_only = false;
};

struct WalkResult {
  // kDone: every name was found. kSymlink: nodes.back() is a link that is not the last name.
  // kError: `error` for the name after the last node. kOpenFailed: found, but not opened: `error`.
  WalkStop stop = WalkStop::kDone;
  int error = 0;
  std::vector<GoferNode> nodes;  // one per name found, from the first on
  std::string target;            // of nodes.back(), if that is a symbolic link
  UniqueFd fd;                   // with kWalkOpen, if the last one is a regular file
};

// One entry of a directory, by Peek.
struct PeekedNode {
  int error = 0;  // or its attributes
  Attr attr;
  UniqueFd fd;  // if asked for and a regular file
};

struct OpenResult {
  UniqueFd fd;
  Attr attr;
};

struct CreateResult {
  GoferNode node;
  UniqueFd fd;
  bool created = false;  // false: it was there before (only without O_EXCL)
};

struct NodeAndFd {
  GoferNode node;
  UniqueFd fd;
};

struct GoferDirEntry {
  std::string_view name;  // into the batch
  uint64_t ino = 0;
  uint64_t next = 0;  // offset of the entry after this one
  uint8_t type = 0;   // DT_*; DT_UNKNOWN is possible
  bool has_attr = false;
  Attr attr;
};

// Entries in the host's order, without "." and "..".
struct DirBatch {
  std::vector<GoferDirEntry> entries;
  bool end = false;  // nothing follows the last entry
  std::unique_ptr<char[]> names;
};

struct NewFile {
  uint32_t mode = 0;  // permissions and set-id bits; the umask is applied already
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
};

struct ClientOptions {
  uint32_t max_channels = 8;  // the server may offer fewer
  bool shared_memory = true;
};

class GoferClient final : public RefCounted<GoferClient> {
 public:
  // Says hello over `socket`: connected, SOCK_SEQPACKET, the server at its other end.
  static Result<Ref<GoferClient>> Create(UniqueFd socket, const ClientOptions& options = {});

  uint32_t root_count() const { return root_count_; }
  uint32_t max_handles() const { return max_handles_; }
  // The gofer is gone or spoke nonsense.
  bool broken() const { return broken_.load(std::memory_order_relaxed); }

  Result<AttachResult> Attach(uint32_t root);

  // Walks up to kMaxWalkNames names from `dir`. `flags`: kWalkHandleAll, kWalkHandleLast,
  // kWalkOpen. A name that is not there is not an error of the call: see WalkResult.
  Result<WalkResult> Walk(const GoferHandle& dir, std::span<const std::string_view> names,
                          uint32_t flags, uint32_t open_flags = 0);
  // Walk of one name with a handle, its errors as this call's own.
  Result<GoferNode> Lookup(const GoferHandle& dir, std::string_view name);
  // The same without a handle: fstatat(dir, name, AT_SYMLINK_NOFOLLOW).
  Result<Attr> StatAt(const GoferHandle& dir, std::string_view name);

  // Several entries of one directory, in the order of the names; with `open` the regular ones are opened
  // for reading (those that can be: a descriptor may be missing). EINVAL for more names than
  // kMaxPeekNames, or kMaxDescriptors with `open`.
  Result<std::vector<PeekedNode>> Peek(const GoferHandle& dir,
                                       std::span<const std::string_view> names, bool open);

  Result<Attr> Stat(const GoferHandle& file);
  // `request.handle` is filled in here. Returns the attributes afterwards.
  Result<Attr> SetAttr(const GoferHandle& file, SetAttrRequest request);
  // Regular files; FIFOs where the root allows (non-blocking descriptors).
  Result<OpenResult> Open(const GoferHandle& file, uint32_t flags);
  // `flags` as for Open, and O_EXCL. EEXIST also when something other than a regular file is there.
  Result<CreateResult> Create(const GoferHandle& dir, std::string_view name, uint32_t flags,
                              const NewFile& file);
  // O_TMPFILE. Link() gives it a name.
  Result<CreateResult> CreateNameless(const GoferHandle& dir, uint32_t flags, const NewFile& file);
  // A nameless file of a root that has no others, for reading and writing. It goes with the descriptor.
  Result<UniqueFd> CreateUnlinked(const GoferHandle& root);
  Result<GoferNode> Mkdir(const GoferHandle& dir, std::string_view name, const NewFile& file);
  // `type`: S_IFREG, S_IFIFO, S_IFSOCK, or S_IFCHR for a whiteout; devices are EPERM.
  Result<GoferNode> Mknod(const GoferHandle& dir, std::string_view name, uint32_t type,
                          const NewFile& file);
  Result<GoferNode> Symlink(const GoferHandle& dir, std::string_view name, std::string_view target,
                            uint32_t uid, uint32_t gid);
  // Returns the target's attributes afterwards.
  Result<Attr> Link(const GoferHandle& target, const GoferHandle& dir, std::string_view name);
  Result<void> Unlink(const GoferHandle& dir, std::string_view name);
  Result<void> Rmdir(const GoferHandle& dir, std::string_view name);
  // `flags`: RENAME_NOREPLACE or RENAME_EXCHANGE.
  Result<void> Rename(const GoferHandle& old_dir, std::string_view old_name,
                      const GoferHandle& new_dir, std::string_view new_name, uint32_t flags);
  Result<std::string> ReadLink(const GoferHandle& link);
  // From `offset`: 0 or an entry's `next`. `max_size` bounds the batch in bytes; 0 is the most.
  Result<DirBatch> ReadDir(const GoferHandle& dir, uint64_t offset, bool with_attr,
                           uint32_t max_size = 0);

  // Values as getxattr(2): ERANGE when larger than max_size; max_size 0 asks for nothing but the
  // size, which XattrSize returns.
  Result<std::string> GetXattr(const GoferHandle& file, std::string_view name, size_t max_size);
  Result<size_t> XattrSize(const GoferHandle& file, std::string_view name);
  Result<void> SetXattr(const GoferHandle& file, std::string_view name, std::string_view value,
                        uint32_t flags);
  // Names, each ended by a NUL.
  Result<std::string> ListXattr(const GoferHandle& file);
  Result<void> RemoveXattr(const GoferHandle& file, std::string_view name);

  Result<StatFsReply> StatFs(const GoferHandle& file);
  Result<void> Fsync(const GoferHandle& file, SyncKind kind);
  Result<void> Fallocate(const GoferHandle& file, uint32_t mode, uint64_t offset, uint64_t length);

  // Host unix sockets, where the root allows: a connected or bound non-blocking socket comes back.
  Result<UniqueFd> Connect(const GoferHandle& socket, uint32_t type);
  Result<NodeAndFd> Bind(const GoferHandle& dir, std::string_view name, uint32_t type,
                         const NewFile& file);
  // Of a stream or seqpacket socket that Bind made, once. EINVAL.
  Result<void> Listen(const GoferHandle& socket, uint32_t backlog);

  // Queues a close, without a round trip; the queue goes out with one of the next calls.
  void Close(HandleValue value);
  // Sends the queue now: after an unlink, so that the host frees the file.
  void FlushCloses();

 private:
  friend class Call;
  GoferClient(UniqueFd socket, const ClientOptions& options);
  ~GoferClient() override;
  template <typename T, typename... Args>
  friend Ref<T> ringwall::MakeRef(Args&&... args);

  Result<void> Hello();
  Result<ClientChannel*> Acquire();
  ClientChannel* TakeIdle(bool any) REQUIRES(mu_);
  void ReleaseChannel(ClientChannel* channel);
  Result<std::unique_ptr<ClientChannel>> OpenChannel();
  // The queued closes when they are many enough to be worth a round trip, or `all` of them.
  std::vector<HandleValue> TakeCloses(bool all);
  void SendCloses(Call& call, std::span<const HandleValue> values);
  Result<GoferNode> Make(const GoferHandle& dir, std::string_view name, std::string_view target,
                         uint32_t type, const NewFile& file);
  Result<CreateResult> DoCreate(const GoferHandle& dir, std::string_view name, uint32_t flags,
                                const NewFile& file, bool want_handle = true);
  Result<void> DoUnlink(const GoferHandle& dir, std::string_view name, uint32_t flags);
  Result<std::string> DoXattr(Op op, const GoferHandle& file, std::string_view name,
                              std::string_view value, uint32_t room, uint32_t flags, size_t* size);
  Result<GoferNode> ToNode(const NodeReply& reply, Call& call, bool want_handle);
  // Marks the connection broken, wakes all who wait on it. Logs the first time.
  void Break(const char* why);

  const ClientOptions options_;
  uint32_t root_count_ = 0;
  uint32_t max_handles_ = 0;
  std::atomic<bool> broken_ = false;
  std::atomic<uint64_t> next_seq_ = 1;

  // The socket given at creation: for opening channels, and for calls when there are none.
  std::unique_ptr<ClientChannel> control_;
  Mutex<LockClass::kGofer> control_mu_;  // one opening at a time

  Mutex<LockClass::kLeaf> mu_;
  CondVar idle_changed_;
  std::vector<ClientChannel*> idle_ GUARDED_BY(mu_);
  std::vector<std::unique_ptr<ClientChannel>> channels_ GUARDED_BY(mu_);
  uint32_t opening_ GUARDED_BY(mu_) = 0;
  uint32_t channel_limit_ GUARDED_BY(mu_) = 0;

  Mutex<LockClass::kLeaf> closes_mu_;
  std::vector<HandleValue> closes_ GUARDED_BY(closes_mu_);
  std::atomic<uint32_t> closes_queued_ = 0;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_CLIENT_CLIENT_H_
