// The messages between the Sentry (client) and its gofer (server): fixed little structs with all
// padding spelled out, followed by names and values as plain bytes. Both sides hold the other for
// hostile; codec.h is the only way in and out. README.md describes the conversation.
#ifndef RINGWALL_GOFER_PROTO_MESSAGE_H_
#define RINGWALL_GOFER_PROTO_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ringwall::gofer {

inline constexpr uint32_t kProtocolVersion = 1;
// Room for an extended attribute of 64 KiB with its request around it.
inline constexpr size_t kMaxMessage = 72 << 10;
inline constexpr size_t kMaxNameLength = 255;
inline constexpr size_t kMaxPathLength = 4095;  // of a symbolic link's target
inline constexpr size_t kMaxXattrName = 255;
inline constexpr size_t kMaxXattrValue = 64 << 10;
inline constexpr size_t kMaxWalkNames = 128;
inline constexpr size_t kMaxCloses = 4096;
inline constexpr size_t kMaxDescriptors = 16;  // in one reply

// Structs that may cross: no padding byte could carry memory of one side to the other.
template <typename T>
concept Wire = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
    std::has_unique_object_representations_v<T>;

enum class Op : uint16_t {
  kHello = 1,
  kOpenChannel,
  kAttach,
  kWalk,
  kStat,
  kSetAttr,
  kOpen,
  kCreate,
  kMake,  // mkdir, mknod, symlink
  kLink,
  kUnlink,
  kRename,
  kReadLink,
  kReadDir,
  kGetXattr,
  kSetXattr,
  kListXattr,
  kRemoveXattr,
  kStatFs,
  kFsync,
  kFallocate,
  kConnect,
  kBind,
  kClose,
  kListen,
  kPeek,
};

// A host file that the server holds for the client: chosen by the server, opaque to the client.
// 0 is none.
using HandleValue = uint64_t;

struct RequestHeader {
  uint32_t size = 0;  // of the whole message
  uint16_t op = 0;
  uint16_t pad = 0;
  uint64_t seq = 0;  // comes back in the reply
};

struct ReplyHeader {
  uint32_t size = 0;
  int32_t error = 0;  // 0 or a Linux errno; then no body and no descriptor follows
  uint64_t seq = 0;
  uint32_t fd_count = 0;
  uint32_t pad = 0;
};

struct Time {
  int64_t sec = 0;
  uint32_t nsec = 0;
  uint32_t pad = 0;
};

// What statx(2) tells of a file.
struct Attr {
  uint64_t ino = 0;
  uint64_t dev = 0;
  uint64_t rdev = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes
  uint32_t mode = 0;    // with the type
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t blksize = 0;
  uint32_t has_btime = 0;
  Time atime;
  Time mtime;
  Time ctime;
  Time btime;
};

struct NodeReply {
  HandleValue handle = 0;
  Attr attr;
};

struct HelloRequest {
  uint32_t version = kProtocolVersion;
  uint32_t pad = 0;
};
struct HelloReply {
  uint32_t version = 0;
  uint32_t root_count = 0;
  uint32_t max_channels = 0;
  uint32_t max_handles = 0;
};

// Asks for one more channel: its socket comes as a descriptor.
struct OpenChannelRequest {
  uint32_t shared_memory = 0;  // 1: and after it the shared memory (channel.h)
  uint32_t pad = 0;
};

struct AttachRequest {
  uint32_t root = 0;
  uint32_t pad = 0;
};
struct AttachReply {
  NodeReply node;
  uint32_t read_only = 0;
  uint32_t pad = 0;
};

// Handles of all components, of the last one only, or of none (then it is a stat by path).
inline constexpr uint32_t kWalkHandleAll = 1 << 0;
inline constexpr uint32_t kWalkHandleLast = 1 << 1;
// Open the last component if it is a regular file, with open_flags, and donate the descriptor.
inline constexpr uint32_t kWalkOpen = 1 << 2;

// Followed by `count` times a uint16_t length and a name.
struct WalkRequest {
  HandleValue dir = 0;
  uint32_t flags = 0;
  uint32_t open_flags = 0;
  uint32_t count = 0;
  uint32_t pad = 0;
};

enum class WalkStop : uint16_t {
  kDone = 0,        // all components are there; the last one may be a symbolic link
  kSymlink = 1,     // a component before the last is a symbolic link: the last node sent
  kError = 2,       // the component after the last node sent: `error`
  kOpenFailed = 3,  // all components are there, but opening failed with `error`
};
// Followed by `count` NodeReply and the target of the last node if it is a symbolic link.
struct WalkReply {
  uint16_t stop = 0;
  uint16_t count = 0;
  int32_t error = 0;
  uint32_t target_size = 0;
  uint32_t pad = 0;
};

// Several entries of one directory at once, without handles: what a program that goes through it will
// ask for next.
inline constexpr size_t kMaxPeekNames = 128;
// Regular files are opened for reading and their descriptors donated, in the order of the names. There
// may be kMaxDescriptors names then.
inline constexpr uint32_t kPeekOpen = 1 << 0;

// Followed by `count` times a uint16_t length and a name.
struct PeekRequest {
  HandleValue dir = 0;
  uint32_t flags = 0;
  uint32_t count = 0;
};
// One for each name.
struct PeekReply {
  int32_t error = 0;    // why there are no attributes
  uint32_t opened = 0;  // 1: a descriptor came along
  Attr attr;
};

struct HandleRequest {  // stat, readlink, statfs
  HandleValue handle = 0;
};

inline constexpr uint32_t kSetMode = 1 << 0;
inline constexpr uint32_t kSetUid = 1 << 1;
inline constexpr uint32_t kSetGid = 1 << 2;
inline constexpr uint32_t kSetSize = 1 << 3;
inline constexpr uint32_t kSetAtime = 1 << 4;
inline constexpr uint32_t kSetMtime = 1 << 5;
inline constexpr uint32_t kSetAtimeNow = 1 << 6;
inline constexpr uint32_t kSetMtimeNow = 1 << 7;
inline constexpr uint32_t kSetAll = (1 << 8) - 1;

struct SetAttrRequest {
  HandleValue handle = 0;
  uint32_t mask = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  Time atime;
  Time mtime;
};

struct OpenRequest {
  HandleValue handle = 0;
  uint32_t flags = 0;
  uint32_t pad = 0;
};

inline constexpr uint32_t kNoId = 0xffffffff;  // uid and gid: leave as the host makes it

// Create without a name and with O_TMPFILE makes a nameless file. Followed by the name.
struct CreateRequest {
  HandleValue dir = 0;
  uint32_t flags = 0;
  uint32_t mode = 0;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  uint32_t name_size = 0;
  uint32_t pad = 0;
};
struct CreateReply {
  NodeReply node;
  uint32_t created = 0;  // 0: it was there before
  uint32_t pad = 0;
};

// The type in `mode` says what: S_IFDIR, S_IFIFO, S_IFSOCK, S_IFREG, S_IFLNK, or S_IFCHR with
// rdev 0 (an overlay's whiteout). Followed by the name and a link's target.
struct MakeRequest {
  HandleValue dir = 0;
  uint32_t mode = 0;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  uint32_t name_size = 0;
  uint64_t rdev = 0;
  uint32_t target_size = 0;
  uint32_t want_handle = 0;
};

struct LinkRequest {
  HandleValue target = 0;
  HandleValue dir = 0;
  uint32_t name_size = 0;
  uint32_t pad = 0;
};

struct UnlinkRequest {
  HandleValue dir = 0;
  uint32_t flags = 0;  // AT_REMOVEDIR or 0
  uint32_t name_size = 0;
};

struct RenameRequest {
  HandleValue old_dir = 0;
  HandleValue new_dir = 0;
  uint32_t flags = 0;  // RENAME_NOREPLACE, RENAME_EXCHANGE
  uint32_t old_size = 0;
  uint32_t new_size = 0;
  uint32_t pad = 0;
};

inline constexpr uint32_t kReadDirAttr = 1 << 0;

struct ReadDirRequest {
  HandleValue handle = 0;
  uint64_t offset = 0;  // 0, or the `next` of the last entry seen
  uint32_t flags = 0;
  uint32_t max_size = 0;  // of the reply; 0: as much as fits
};
struct ReadDirReply {
  uint32_t count = 0;
  uint32_t end = 0;  // 1: nothing follows the last entry
};
// Followed by an Attr if has_attr, and the name.
struct DirEntryHeader {
  uint64_t ino = 0;
  uint64_t next = 0;
  uint16_t name_size = 0;
  uint8_t type = 0;  // DT_*
  uint8_t has_attr = 0;
  uint32_t pad = 0;
};

// Followed by the name and, for set, the value.
struct XattrRequest {
  HandleValue handle = 0;
  uint32_t flags = 0;  // XATTR_CREATE, XATTR_REPLACE
  uint32_t name_size = 0;
  uint32_t value_size = 0;  // get, list: room the caller has (0: only the size)
  uint32_t pad = 0;
};
// Followed by the value, or for list by names that each end in a NUL.
struct XattrReply {
  uint32_t size = 0;   // as getxattr(2) returns it
  uint32_t bytes = 0;  // how many follow: size, or 0 when only the size was asked for
};

struct StatFsReply {
  uint64_t type = 0;
  uint64_t bsize = 0;
  uint64_t blocks = 0;
  uint64_t bfree = 0;
  uint64_t bavail = 0;
  uint64_t files = 0;
  uint64_t ffree = 0;
  uint64_t namelen = 0;
  uint64_t frsize = 0;
  uint64_t flags = 0;  // ST_*
};

enum class SyncKind : uint32_t { kFile = 0, kData = 1, kFileSystem = 2 };

struct FsyncRequest {
  HandleValue handle = 0;
  uint32_t kind = 0;
  uint32_t pad = 0;
};

struct FallocateRequest {
  HandleValue handle = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint32_t mode = 0;
  uint32_t pad = 0;
};

struct ConnectRequest {
  HandleValue handle = 0;
  uint32_t type = 0;  // SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET
  uint32_t pad = 0;
};

// Followed by the name.
struct BindRequest {
  HandleValue dir = 0;
  uint32_t type = 0;
  uint32_t mode = 0;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  uint32_t name_size = 0;
  uint32_t pad = 0;
};

// Of a socket that kBind made. Once: the server lets go of the socket with it.
struct ListenRequest {
  HandleValue handle = 0;
  uint32_t backlog = 0;
  uint32_t pad = 0;
};

// Followed by `count` HandleValue.
struct CloseRequest {
  uint32_t count = 0;
  uint32_t pad = 0;
};

static_assert(Wire<RequestHeader> && sizeof(RequestHeader) == 16);
static_assert(Wire<ReplyHeader> && sizeof(ReplyHeader) == 24);
static_assert(Wire<Attr> && sizeof(Attr) == 128);
static_assert(Wire<NodeReply> && Wire<HelloRequest> && Wire<HelloReply> && Wire<AttachReply>);
static_assert(Wire<WalkRequest> && Wire<WalkReply> && Wire<SetAttrRequest> && Wire<CreateReply>);
static_assert(Wire<CreateRequest> && Wire<MakeRequest> && Wire<LinkRequest> && Wire<UnlinkRequest>);
static_assert(Wire<PeekRequest> && Wire<PeekReply>);
static_assert(kMaxPeekNames * sizeof(PeekReply) + sizeof(ReplyHeader) <= kMaxMessage);
static_assert(Wire<RenameRequest> && Wire<ReadDirRequest> && Wire<DirEntryHeader>);
static_assert(Wire<XattrRequest> && Wire<StatFsReply> && Wire<FallocateRequest>);
static_assert(Wire<ConnectRequest> && Wire<BindRequest> && Wire<ListenRequest> &&
              Wire<CloseRequest>);

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_PROTO_MESSAGE_H_
