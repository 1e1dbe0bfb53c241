// Requests that no honest client sends: every one is an errno or the end of the connection.
#include "gofer/server/session.h"

#include <sys/stat.h>

#include <random>
#include <string>

#include "gofer/testing/fixture.h"

namespace ringwall::gofer {
namespace {

constexpr int kHungUp = -1;

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() : session_(Options()) {
    ::mkdir((dir_ / "sub").c_str(), 0755);
    WriteFile(dir_ / "sub/file", "x");
    WriteFile(outside_ / "secret", "s");
    root_ = Attach(0);
  }

  SessionOptions Options() {
    SessionOptions options;
    for (const bool read_only : {false, true}) {
      options.roots.push_back({.fd = UniqueFd(::open(dir_.path().c_str(), O_PATH | O_CLOEXEC)),
                               .read_only = read_only});
    }
    for (const char* path : {"/", "/proc"}) {
      options.roots.push_back({.fd = UniqueFd(::open(path, O_PATH | O_CLOEXEC)), .read_only = true});
    }
    options.max_handles = 100;
    return options;
  }

  // The reply's errno (0 with its body in body_), or kHungUp.
  int Send(std::span<const uint8_t> bytes) {
    // Exactly as large as the message, so that ASan sees a read past it.
    const std::vector<uint8_t> request(bytes.begin(), bytes.end());
    Descriptors fds;
    const size_t size = session_.Handle(request, room_, scratch_, &fds);
    if (size == 0) return kHungUp;
    Reader reply(std::span<const uint8_t>(room_).first(size));
    const ReplyHeader header = *reply.Read<ReplyHeader>();
    EXPECT_EQ(header.size, size);
    EXPECT_EQ(header.fd_count, fds.count);
    if (header.error != 0) {
      EXPECT_EQ(reply.left(), 0u);
      EXPECT_EQ(fds.count, 0u);
    }
    body_ = reply;
    return header.error;
  }

  template <typename T>
  std::vector<uint8_t> Message(Op op, const T& request, std::string_view tail = {}) {
    std::vector<uint8_t> bytes(sizeof(RequestHeader) + sizeof(T) + tail.size());
    Writer out(bytes);
    out.Put(RequestHeader{
        .size = static_cast<uint32_t>(bytes.size()), .op = static_cast<uint16_t>(op), .seq = 1});
    out.Put(request);
    out.PutBytes(tail);
    return bytes;
  }
  template <typename T>
  int Send(Op op, const T& request, std::string_view tail = {}) {
    return Send(Message(op, request, tail));
  }

  HandleValue Attach(uint32_t root) {
    EXPECT_EQ(Send(Op::kAttach, AttachRequest{.root = root}), 0);
    return body_.Read<AttachReply>()->node.handle;
  }
  HandleValue WalkTo(std::string_view name) {
    std::string tail(2, '\0');
    tail[0] = static_cast<char>(name.size());
    tail += name;
    EXPECT_EQ(
        Send(Op::kWalk, WalkRequest{.dir = root_, .flags = kWalkHandleLast, .count = 1}, tail), 0);
    EXPECT_TRUE(body_.Read<WalkReply>().ok());
    return body_.Read<NodeReply>()->handle;
  }

  // A valid request of each kind.
  std::vector<std::vector<uint8_t>> AllRequests() {
    const HandleValue sub = WalkTo("sub");
    const std::string name = "name";
    return {
        Message(Op::kHello, HelloRequest{}),
        Message(Op::kOpenChannel, OpenChannelRequest{}),
        Message(Op::kAttach, AttachRequest{.root = 1}),
        Message(Op::kWalk, WalkRequest{.dir = root_, .flags = kWalkHandleAll, .count = 2},
                std::string("\3\0sub\4\0file", 11)),
        Message(Op::kStat, HandleRequest{.handle = sub}),
        Message(Op::kSetAttr, SetAttrRequest{.handle = sub, .mask = kSetMode, .mode = 0700}),
        Message(Op::kOpen, OpenRequest{.handle = sub}),
        Message(Op::kCreate, CreateRequest{.dir = sub, .flags = O_RDWR, .name_size = 4}, name),
        Message(Op::kMake,
                MakeRequest{.dir = sub, .mode = S_IFLNK, .name_size = 4, .target_size = 3},
                "linkabc"),
        Message(Op::kLink, LinkRequest{.target = sub, .dir = root_, .name_size = 4}, name),
        Message(Op::kUnlink, UnlinkRequest{.dir = sub, .name_size = 4}, name),
        Message(Op::kRename,
                RenameRequest{.old_dir = sub, .new_dir = root_, .old_size = 4, .new_size = 3},
                "nameabc"),
        Message(Op::kReadLink, HandleRequest{.handle = sub}),
        Message(Op::kReadDir, ReadDirRequest{.handle = root_, .flags = kReadDirAttr}),
        Message(Op::kGetXattr, XattrRequest{.handle = sub, .name_size = 6, .value_size = 9},
                "user.a"),
        Message(Op::kSetXattr, XattrRequest{.handle = sub, .name_size = 6, .value_size = 1},
                "user.ab"),
        Message(Op::kListXattr, XattrRequest{.handle = sub, .value_size = 9}),
        Message(Op::kRemoveXattr, XattrRequest{.handle = sub, .name_size = 6}, "user.a"),
        Message(Op::kStatFs, HandleRequest{.handle = sub}),
        Message(Op::kFsync, FsyncRequest{.handle = sub}),
        Message(Op::kFallocate, FallocateRequest{.handle = sub, .length = 1}),
        Message(Op::kConnect, ConnectRequest{.handle = sub, .type = SOCK_STREAM}),
        Message(Op::kBind, BindRequest{.dir = sub, .type = SOCK_STREAM, .name_size = 4}, name),
        Message(Op::kPeek, PeekRequest{.dir = root_, .flags = kPeekOpen, .count = 2},
                std::string("\3\0sub\1\0x", 8)),
        Message(Op::kClose, CloseRequest{.count = 1}, std::string(8, '\7')),
    };
  }

  TempDir dir_;
  TempDir outside_;
  std::vector<uint8_t> room_ = std::vector<uint8_t>(kMaxMessage);
  std::vector<uint8_t> scratch_ = std::vector<uint8_t>(kScratchSize);
  Session session_;
  Reader body_;
  HandleValue root_ = 0;
};

TEST_F(SessionTest, FileSystemsOfTheHostsKernelCannotBeEntered) {
  EXPECT_EQ(Send(Op::kAttach, AttachRequest{.root = 3}), EACCES);
  root_ = Attach(2);
  for (const std::string name : {"proc", "sys"}) {
    struct stat below = {}, top = {};
    if (::stat(("/" + name).c_str(), &below) != 0 || ::stat("/", &top) != 0 ||
        below.st_dev == top.st_dev) {
      continue;  // not mounted here
    }
    const HandleValue dir = WalkTo(name);  // a mount point has to be found
    EXPECT_EQ(Send(Op::kStat, HandleRequest{.handle = dir}), 0);
    EXPECT_EQ(Send(Op::kReadDir, ReadDirRequest{.handle = dir}), EACCES);
    const std::string inner = name == "proc" ? "self" : "kernel";
    std::string tail(2, '\0');
    tail[0] = static_cast<char>(inner.size());
    EXPECT_EQ(Send(Op::kWalk, WalkRequest{.dir = dir, .flags = kWalkHandleLast, .count = 1}, tail + inner),
              EACCES);
    std::string both(2, '\0');
    both[0] = static_cast<char>(name.size());
    EXPECT_EQ(Send(Op::kWalk, WalkRequest{.dir = root_, .flags = kWalkHandleLast, .count = 2},
                   both + name + tail + inner), 0);
    const WalkReply reply = *body_.Read<WalkReply>();
    EXPECT_EQ(reply.count, 1u);
    EXPECT_EQ(reply.error, static_cast<decltype(reply.error)>(EACCES));
  }
}

TEST_F(SessionTest, WhatIsNoMessageEndsTheConnection) {
  EXPECT_EQ(Send(std::vector<uint8_t>()), kHungUp);
  EXPECT_EQ(Send(std::vector<uint8_t>(sizeof(RequestHeader) - 1)), kHungUp);
  std::vector<uint8_t> bytes = Message(Op::kStat, HandleRequest{.handle = root_});
  for (const uint32_t size : {0u, 1u, 15u, 23u, 25u, 0xffffffffu}) {
    std::memcpy(bytes.data(), &size, sizeof(size));
    EXPECT_EQ(Send(bytes), kHungUp) << size;
  }
}

TEST_F(SessionTest, UnknownOperationsAreEnosys) {
  for (const uint32_t op : {0u, 27u, 1000u, 0xffffu}) {
    EXPECT_EQ(Send(static_cast<Op>(op), HandleRequest{.handle = root_}), ENOSYS);
  }
  EXPECT_EQ(Send(Op::kHello, HelloRequest{.version = 99}), EPROTO);
}

TEST_F(SessionTest, EveryTruncationOfEveryRequestIsEinval) {
  for (const std::vector<uint8_t>& whole : AllRequests()) {
    for (size_t size = sizeof(RequestHeader); size < whole.size(); ++size) {
      std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<long>(size));
      const uint32_t header_size = static_cast<uint32_t>(size);
      std::memcpy(cut.data(), &header_size, sizeof(header_size));
      EXPECT_EQ(Send(cut), EINVAL) << "op " << int{whole[4]} << " cut to " << size;
    }
    std::vector<uint8_t> longer = whole;
    longer.push_back(0);
    const uint32_t header_size = static_cast<uint32_t>(longer.size());
    std::memcpy(longer.data(), &header_size, sizeof(header_size));
    EXPECT_EQ(Send(longer), EINVAL) << "op " << int{whole[4]} << " with a byte too many";
  }
}

TEST_F(SessionTest, WrongHandlesAreEbadf) {
  const HandleValue sub = WalkTo("sub");
  std::vector<HandleValue> wrong = {0,
                                    1,
                                    ~0ull,
                                    root_ + (1ull << 32),
                                    root_ ^ (1ull << 63),
                                    root_ + 1000,
                                    static_cast<uint32_t>(root_)};
  ASSERT_EQ(Send(Op::kClose, CloseRequest{.count = 1},
                 std::string(static_cast<const char*>(static_cast<const void*>(&sub)), 8)),
            0);
  wrong.push_back(sub);  // closed
  for (const HandleValue value : wrong) {
    EXPECT_EQ(Send(Op::kStat, HandleRequest{.handle = value}), EBADF) << value;
    EXPECT_EQ(Send(Op::kReadDir, ReadDirRequest{.handle = value}), EBADF) << value;
    EXPECT_EQ(Send(Op::kPeek, PeekRequest{.dir = value, .count = 1}, std::string("\1\0x", 3)), EBADF);
    EXPECT_EQ(Send(Op::kUnlink, UnlinkRequest{.dir = value, .name_size = 1}, "x"), EBADF) << value;
    EXPECT_EQ(Send(Op::kClose, CloseRequest{.count = 1},
                   std::string(static_cast<const char*>(static_cast<const void*>(&value)), 8)),
              EBADF)
        << value;
  }
  // The slot's next handle has another value.
  EXPECT_NE(WalkTo("sub"), sub);
}

TEST_F(SessionTest, NamesThatLeadElsewhereAreRefused) {
  const std::string escape = "../" + outside_.path().substr(5) + "/secret";
  for (const std::string& bad :
       {std::string(".."), std::string("."), std::string(""), std::string("/etc"),
        std::string("sub/file"), escape, std::string("a\0b", 3), std::string("sub/")}) {
    const uint32_t size = static_cast<uint32_t>(bad.size());
    const std::string counted =
        std::string(1, static_cast<char>(size)) + std::string(1, '\0') + bad;
    EXPECT_EQ(Send(Op::kWalk, WalkRequest{.dir = root_, .count = 1}, counted), EINVAL) << bad;
    EXPECT_EQ(Send(Op::kPeek, PeekRequest{.dir = root_, .flags = kPeekOpen, .count = 1}, counted),
              EINVAL);
    EXPECT_EQ(
        Send(Op::kCreate, CreateRequest{.dir = root_, .flags = O_RDWR, .name_size = size}, bad),
        EINVAL)
        << bad;
    EXPECT_EQ(Send(Op::kMake, MakeRequest{.dir = root_, .mode = S_IFDIR, .name_size = size}, bad),
              EINVAL);
    EXPECT_EQ(Send(Op::kLink, LinkRequest{.target = root_, .dir = root_, .name_size = size}, bad),
              EINVAL);
    EXPECT_EQ(Send(Op::kUnlink, UnlinkRequest{.dir = root_, .name_size = size}, bad), EINVAL);
    EXPECT_EQ(
        Send(Op::kRename,
             RenameRequest{.old_dir = root_, .new_dir = root_, .old_size = 3, .new_size = size},
             "sub" + bad),
        EINVAL);
    EXPECT_EQ(
        Send(Op::kBind, BindRequest{.dir = root_, .type = SOCK_STREAM, .name_size = size}, bad),
        EINVAL);
  }
}

TEST_F(SessionTest, HugeCountsAndSizesAreRefused) {
  EXPECT_EQ(Send(Op::kWalk, WalkRequest{.dir = root_, .count = ~0u}), EINVAL);
  EXPECT_EQ(Send(Op::kWalk, WalkRequest{.dir = root_, .count = 0}), EINVAL);
  EXPECT_EQ(
      Send(Op::kWalk, WalkRequest{.dir = root_, .flags = 8, .count = 1}, std::string("\1\0a", 3)),
      EINVAL);
  EXPECT_EQ(Send(Op::kPeek, PeekRequest{.dir = root_, .count = ~0u}), EINVAL);
  EXPECT_EQ(Send(Op::kPeek, PeekRequest{.dir = root_, .count = 0}), EINVAL);
  EXPECT_EQ(Send(Op::kPeek, PeekRequest{.dir = root_, .flags = 2, .count = 1},
                 std::string("\1\0a", 3)),
            EINVAL);
  std::string many;
  for (size_t i = 0; i <= kMaxDescriptors; i++) many += std::string("\1\0a", 3);
  PeekRequest peek = {.dir = root_, .flags = kPeekOpen, .count = kMaxDescriptors + 1};
  EXPECT_EQ(Send(Op::kPeek, peek, many), EINVAL);
  peek.flags = 0;
  EXPECT_EQ(Send(Op::kPeek, peek, many), 0);
  EXPECT_EQ(Send(Op::kClose, CloseRequest{.count = ~0u}), EINVAL);
  EXPECT_EQ(Send(Op::kClose, CloseRequest{.count = 0x20000001}, std::string(8, '\0')), EINVAL);
  EXPECT_EQ(
      Send(Op::kMake,
           MakeRequest{.dir = root_, .mode = S_IFLNK, .name_size = 1, .target_size = 0xfffffff0},
           "a"),
      ENAMETOOLONG);
  EXPECT_EQ(
      Send(Op::kSetXattr, XattrRequest{.handle = root_, .name_size = 0xffffffff, .value_size = 1}),
      EINVAL);
  EXPECT_EQ(Send(Op::kSetXattr, XattrRequest{.handle = root_, .name_size = 0, .value_size = ~0u}),
            E2BIG);
  const std::string long_name(300, 'n');
  EXPECT_EQ(Send(Op::kGetXattr, XattrRequest{.handle = root_, .name_size = 300}, long_name),
            ERANGE);
  // The reply is bounded by the room whatever the client says it has.
  EXPECT_EQ(Send(Op::kListXattr, XattrRequest{.handle = root_, .value_size = ~0u}), 0);
  EXPECT_EQ(Send(Op::kReadDir, ReadDirRequest{.handle = root_, .max_size = ~0u}), 0);
  EXPECT_NE(Send(Op::kReadDir, ReadDirRequest{.handle = root_, .offset = ~0ull}), kHungUp);
}

TEST_F(SessionTest, AReplyThatDoesNotFitIsAnErrorAndKeepsNothing) {
  room_.resize(sizeof(ReplyHeader) + 8);
  const uint32_t before = session_.handles_for_test().size();
  const size_t fds = CountFds();
  EXPECT_EQ(
      Send(Op::kWalk, WalkRequest{.dir = root_, .flags = kWalkHandleAll | kWalkOpen, .count = 2},
           std::string("\3\0sub\4\0file", 11)),
      EMSGSIZE);
  EXPECT_EQ(session_.handles_for_test().size(), before);
  EXPECT_EQ(CountFds(), fds);
}

TEST_F(SessionTest, RandomBytesAndMutatedRequestsNeverLeaveTheRoot) {
  std::mt19937 random(1);
  const std::vector<std::vector<uint8_t>> seeds = AllRequests();
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes = seeds[random() % seeds.size()];
    const uint32_t flips = random() % 4;
    for (uint32_t flip = 0; flip < flips; ++flip) {
      bytes[4 + random() % (bytes.size() - 4)] = static_cast<uint8_t>(random());
    }
    if (random() % 8 == 0) {
      for (size_t at = sizeof(RequestHeader); at < bytes.size(); ++at) {
        bytes[at] = static_cast<uint8_t>(random());
      }
    }
    if (random() % 4 == 0) {
      bytes.resize(sizeof(RequestHeader) + random() % (bytes.size() - sizeof(RequestHeader) + 1));
      const uint32_t size = static_cast<uint32_t>(bytes.size());
      std::memcpy(bytes.data(), &size, sizeof(size));
    }
    Send(bytes);
  }
  EXPECT_LE(session_.handles_for_test().size(), 100u);
  struct stat buf;
  EXPECT_EQ(::stat((outside_ / "secret").c_str(), &buf), 0);
}

}  // namespace
}  // namespace ringwall::gofer
