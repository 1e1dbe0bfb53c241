// Replies that no honest gofer sends: each is EIO, and the end of the connection; none harms the
// Sentry.
#include <sys/mman.h>
#include <sys/stat.h>

#include <functional>
#include <random>

#include "gofer/client/client.h"
#include "gofer/proto/channel.h"
#include "gofer/proto/codec.h"
#include "gofer/proto/socket.h"
#include "gofer/server/session.h"
#include "gofer/testing/fixture.h"
#include "sentry/base/log.h"

namespace ringwall::gofer {
namespace {

using Bytes = std::vector<uint8_t>;

// A server that an honest session answers for, until `tamper` has a say.
class FakeServer {
 public:
  // Changes a reply before it is sent; returns false to hang up.
  using Tamper = std::function<bool(Op op, Bytes& reply, Descriptors& fds)>;

  FakeServer(const std::string& dir, UniqueFd socket, Tamper tamper)
      : socket_(std::move(socket)), tamper_(std::move(tamper)), session_(Options(dir)) {
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeServer() { thread_.join(); }

 private:
  static SessionOptions Options(const std::string& dir) {
    SessionOptions options;
    options.roots.push_back(
        {.fd = UniqueFd(::open(dir.c_str(), O_PATH | O_CLOEXEC)), .read_only = false});
    return options;
  }
  void Run() {
    Bytes request(kMaxMessage), scratch(kScratchSize);
    while (true) {
      Result<size_t> size = ReceiveMessage(socket_.get(), request, nullptr, Wait::kYes);
      if (!size.ok() || *size == 0) break;
      Bytes reply(kMaxMessage);
      Descriptors fds;
      const size_t reply_size =
          session_.Handle(std::span<const uint8_t>(request).first(*size), reply, scratch, &fds);
      if (reply_size == 0) break;
      reply.resize(reply_size);
      const Op op = static_cast<Op>(request[4]);
      if (op != Op::kHello && op != Op::kAttach && !tamper_(op, reply, fds)) break;
      SendMessage(socket_.get(), reply, fds, Wait::kNo).error_value();
    }
    socket_.reset();
  }

  UniqueFd socket_;
  const Tamper tamper_;
  Session session_;
  std::thread thread_;
};

class HostileServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ::mkdir((dir_ / "d").c_str(), 0755);
    WriteFile(dir_ / "d/file", "x");
    WriteFile(dir_ / "f", "x");
    ASSERT_EQ(::symlink("target", (dir_ / "link").c_str()), 0);
    SetLogConfig({.level = LogLevel::kError, .format = LogFormat::kText});
  }
  void TearDown() override { Disconnect(); }
  void Disconnect() {
    root_.reset();
    file_.reset();
    client_.reset();
    server_.reset();
  }
  void Connect(FakeServer::Tamper tamper) {
    Disconnect();
    UniqueFd ours, theirs;
    MakePair(&ours, &theirs);
    armed_ = false;
    server_ = std::make_unique<FakeServer>(
        dir_.path(), std::move(theirs),
        [this, tamper = std::move(tamper)](Op op, Bytes& reply, Descriptors& fds) {
          return !armed_ || tamper(op, reply, fds);
        });
    Result<Ref<GoferClient>> client = GoferClient::Create(std::move(ours));
    ASSERT_TRUE(client.ok());
    client_ = RefPtr<GoferClient>(std::move(*client));
    root_ = std::move(client_->Attach(0)->node.handle);
    file_ = std::move(client_->Lookup(root_, "f")->handle);
    armed_ = true;
  }

  // All kinds of calls, one of them per `which`; what they return does not matter.
  static constexpr uint32_t kCalls = 19;
  void CallOne(uint32_t which) {
    const std::vector<std::string_view> names = {"d", "file"};
    const std::vector<std::string_view> link = {"link"};
    switch (which % kCalls) {
      case 0:
        client_->Walk(root_, names, kWalkHandleAll | kWalkOpen, O_RDWR).ok();
        break;
      case 1:
        client_->Walk(root_, link, 0).ok();
        break;
      case 2:
        client_->Stat(file_).ok();
        break;
      case 3:
        client_->SetAttr(file_, {.mask = kSetMode, .mode = 0600}).ok();
        break;
      case 4:
        client_->Open(file_, O_RDONLY).ok();
        break;
      case 5:
        client_->Create(root_, "new", O_RDWR, {.mode = 0600}).ok();
        break;
      case 6:
        client_->Mkdir(root_, "dir", {.mode = 0700}).ok();
        break;
      case 7:
        client_->Link(file_, root_, "hard").ok();
        break;
      case 8:
        client_->Unlink(root_, "hard").ok();
        break;
      case 9:
        client_->Rename(root_, "new", root_, "new2", 0).ok();
        break;
      case 10:
        client_->ReadDir(root_, 0, true).ok();
        break;
      case 11:
        client_->ReadDir(root_, 0, false).ok();
        break;
      case 12:
        client_->GetXattr(file_, "user.a", 10).ok();
        break;
      case 13:
        client_->ListXattr(file_).ok();
        break;
      case 14:
        client_->StatFs(root_).ok();
        break;
      case 15:
        client_->Fsync(file_, SyncKind::kFile).ok();
        break;
      case 16:
        client_->SetXattr(file_, "user.a", "b", 0).ok();
        break;
      case 17:
        client_->Symlink(root_, "l2", "target", kNoId, kNoId).ok();
        break;
      case 18: {
        const std::vector<std::string_view> entries = {"d", "f", "link", "missing"};
        client_->Peek(root_, entries, true).ok();
        break;
      }
    }
  }
  // The call meets this reply and is EIO, as is every later one.
  template <typename F>
  void ExpectBroken(FakeServer::Tamper tamper, F call) {
    Connect(std::move(tamper));
    EXPECT_EQ(call().error_value(), EIO);
    EXPECT_TRUE(client_->broken());
    EXPECT_EQ(client_->Stat(root_).error_value(), EIO);
  }
  template <typename T>
  static void Put(Bytes& reply, size_t at, T value) {
    std::memcpy(reply.data() + at, &value, sizeof(value));
  }
  static void Resize(Bytes& reply, size_t size) {
    reply.resize(size);
    Put(reply, 0, static_cast<uint32_t>(size));
  }

  static constexpr size_t kBody = sizeof(ReplyHeader);
  TempDir dir_;
  std::unique_ptr<FakeServer> server_;
  RefPtr<GoferClient> client_;
  GoferHandle root_;
  GoferHandle file_;
  std::atomic<bool> armed_ = false;
};

TEST_F(HostileServerTest, WrongHeadersBreakTheConnection) {
  auto stat = [&] { return client_->Stat(file_); };
  ExpectBroken([](Op, Bytes&, Descriptors&) { return false; }, stat);
  const std::vector<std::function<void(Bytes&)>> changes = {
      [](Bytes& r) { r.resize(3); },
      [](Bytes& r) { r.resize(kBody - 1); },
      [](Bytes& r) { Put(r, 0, 7u); },
      [](Bytes& r) { Put(r, 0, ~0u); },
      [](Bytes& r) { Put(r, 4, -1); },
      [](Bytes& r) { Put(r, 4, 512); },          // the Sentry's own ERESTARTSYS
      [](Bytes& r) { Put(r, 4, ENOENT); },       // and still a body
      [](Bytes& r) { Put(r, 8, uint64_t{0}); },  // another request's reply
      [](Bytes& r) { Put(r, 16, 1u); },          // a descriptor that is not there
      [](Bytes& r) { Put(r, 20, 1u); },
      [](Bytes& r) {
        r.pop_back();
        Put(r, 0, static_cast<uint32_t>(r.size()));
      },
      [](Bytes& r) {
        r.push_back(0);
        Put(r, 0, static_cast<uint32_t>(r.size()));
      },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectBroken(
        [&](Op, Bytes& reply, Descriptors&) {
          changes[i](reply);
          return true;
        },
        stat);
  }
}

TEST_F(HostileServerTest, AttributesOfNoFileBreakTheConnection) {
  Attr good;
  good.mode = S_IFREG | 0644;
  for (int i = 0; i < 5; ++i) {
    Attr attr = good;
    if (i == 0) attr.mode = 0644;
    if (i == 1) attr.mode = S_IFREG | 1u << 20;
    if (i == 2) attr.size = uint64_t{1} << 63;
    if (i == 3) attr.mtime.nsec = 1000000000;
    if (i == 4) attr.blocks = ~0ull;
    ExpectBroken(
        [&](Op, Bytes& reply, Descriptors&) {
          Put(reply, kBody, attr);
          return true;
        },
        [&] { return client_->Stat(file_); });
  }
}

TEST_F(HostileServerTest, WalksThatDoNotFitTheQuestionBreakTheConnection) {
  const std::vector<std::string_view> names = {"d", "file"};
  auto walk = [&] { return client_->Walk(root_, names, kWalkHandleAll | kWalkOpen, O_RDONLY); };
  const std::vector<std::function<void(Bytes&, Descriptors&)>> changes = {
      [](Bytes& r, Descriptors&) { Put(r, kBody, uint16_t{9}); },      // unknown stop
      [](Bytes& r, Descriptors&) { Put(r, kBody, uint16_t{1}); },      // a link, where none is
      [](Bytes& r, Descriptors&) { Put(r, kBody, uint16_t{2}); },      // an error without one
      [](Bytes& r, Descriptors&) { Put(r, kBody + 2, uint16_t{3}); },  // more than asked for
      [](Bytes& r, Descriptors&) { Put(r, kBody + 2, uint16_t{0xffff}); },
      [](Bytes& r, Descriptors&) { Put(r, kBody + 4, EINVAL); },
      [](Bytes& r, Descriptors&) { Put(r, kBody + 8, 0xfffffff0u); },   // the target's size
      [](Bytes& r, Descriptors&) { Put(r, kBody + 16, uint64_t{0}); },  // no handle
      [](Bytes& r, Descriptors&) { Put(r, kBody + 16 + 8 + 40, S_IFREG | 0644u); },  // not a dir
      [](Bytes& r, Descriptors& fds) {  // no descriptor
        fds.Clear();
        Put(r, 16, 0u);
      },
      [](Bytes& r, Descriptors& fds) {  // one too many
        fds.Add(UniqueFd(::open("/dev/null", O_RDONLY)));
        Put(r, 16, 2u);
      },
      [](Bytes&, Descriptors& fds) {  // a device
        fds.Clear();
        fds.Add(UniqueFd(::open("/dev/null", O_RDONLY)));
      },
      [](Bytes&, Descriptors& fds) {  // a directory
        fds.Clear();
        fds.Add(UniqueFd(::open("/", O_RDONLY)));
      },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectBroken(
        [&](Op op, Bytes& reply, Descriptors& fds) {
          if (op == Op::kWalk) changes[i](reply, fds);
          return true;
        },
        walk);
  }
}

TEST_F(HostileServerTest, PeeksThatDoNotFitTheQuestionBreakTheConnection) {
  const std::vector<std::string_view> names = {"d", "f"};
  constexpr size_t kSecond = kBody + sizeof(PeekReply);
  const auto expect_broken = [&](bool open, const std::function<void(Bytes&, Descriptors&)>& lie) {
    ExpectBroken(
        [&](Op op, Bytes& reply, Descriptors& fds) {
          if (op == Op::kPeek) lie(reply, fds);
          return true;
        },
        [&] { return client_->Peek(root_, names, open); });
  };
  // A descriptor that nobody asked for, of a directory, or of none; too few entries; impossible ones.
  expect_broken(false, [](Bytes& reply, Descriptors&) { Put(reply, kSecond + 4, 1u); });
  expect_broken(true, [](Bytes& reply, Descriptors&) { Put(reply, kBody + 4, 1u); });
  expect_broken(true, [](Bytes& reply, Descriptors&) { Put(reply, kSecond + 4, 0u); });
  expect_broken(true, [](Bytes&, Descriptors& fds) {
    fds.fd[0] = UniqueFd(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  });
  expect_broken(true, [](Bytes& reply, Descriptors&) { Resize(reply, kSecond); });
  expect_broken(true, [](Bytes& reply, Descriptors&) { Put(reply, kBody, 100000); });
  expect_broken(true, [](Bytes& reply, Descriptors&) { Put(reply, kSecond, 2); });
  expect_broken(true, [](Bytes& reply, Descriptors&) {
    Put(reply, kBody + offsetof(PeekReply, attr.mode), 0u);
  });
}

TEST_F(HostileServerTest, DirectoriesWithImpossibleEntriesBreakTheConnection) {
  for (const std::string name : {"..", ".", "a/b", "", "\0x"}) {
    ExpectBroken(
        [&](Op, Bytes& reply, Descriptors&) {
          reply.resize(kBody);
          Bytes body(1000);
          Writer out(body);
          out.Put(ReadDirReply{.count = 1, .end = 1});
          out.Put(DirEntryHeader{.name_size = static_cast<uint16_t>(name.size())});
          out.PutBytes(name);
          body.resize(out.used());
          reply.insert(reply.end(), body.begin(), body.end());
          Resize(reply, reply.size());
          return true;
        },
        [&] { return client_->ReadDir(root_, 0, false); });
  }
  // A name that takes the bytes of the entries after it.
  ExpectBroken(
      [&](Op, Bytes& reply, Descriptors&) {
        Put(reply, kBody + sizeof(ReadDirReply) + offsetof(DirEntryHeader, name_size),
            static_cast<uint16_t>(reply.size() - kBody - sizeof(ReadDirReply) -
                                  sizeof(DirEntryHeader)));
        return true;
      },
      [&] { return client_->ReadDir(root_, 0, false); });
  for (const uint32_t count : {0u, 1000u, ~0u}) {
    ExpectBroken(
        [&](Op, Bytes& reply, Descriptors&) {
          Put(reply, kBody, ReadDirReply{.count = count, .end = 0});
          return true;
        },
        [&] { return client_->ReadDir(root_, 0, true); });
  }
}

TEST_F(HostileServerTest, TamperedRepliesNeverHarm) {
  std::mt19937 random(7);
  int broken = 0;
  for (uint32_t round = 0; round < 60 * kCalls; ++round) {
    if (client_ == nullptr || client_->broken()) {
      ++broken;
      Connect([&](Op, Bytes& reply, Descriptors& fds) {
        const uint32_t flips = 1 + random() % 3;
        for (uint32_t i = 0; i < flips; ++i) {
          const size_t from = random() % 4 == 0 ? 0 : std::min(kBody, reply.size() - 1);
          const size_t at = from + random() % (reply.size() - from);
          reply[at] = static_cast<uint8_t>(random());
        }
        if (random() % 4 == 0) Resize(reply, random() % (reply.size() + 8));
        if (reply.size() < 4) reply.resize(4);
        if (random() % 8 == 0) fds.Clear();
        return true;
      });
    }
    CallOne(round);
    CallOne(static_cast<uint32_t>(random()));
  }
  EXPECT_GT(broken, 10);
}

TEST(HostileMemoryTest, MemoryThatCanShrinkIsNotMapped) {
  UniqueFd fd;
  EXPECT_TRUE(ChannelMemory::Make(&fd).ok());
  EXPECT_TRUE(ChannelMemory::Map(fd.get()).ok());
  EXPECT_NE(::ftruncate(fd.get(), 0), 0);
  fd.reset(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(fd.get(), kChannelSize), 0);
  EXPECT_EQ(ChannelMemory::Map(fd.get()).error_value(), EPERM);
  ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
  ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_EQ(ChannelMemory::Map(fd.get()).error_value(), EPERM);
  fd.reset(::open("/dev/zero", O_RDWR));
  EXPECT_FALSE(ChannelMemory::Map(fd.get()).ok());
}

TEST(HostileMemoryTest, AMessageIsNeverLargerThanTheRoom) {
  Bytes room(kMaxMessage), copy(kMaxMessage);
  for (const uint32_t size : {0u, 3u, static_cast<uint32_t>(kMaxMessage) + 1, ~0u}) {
    std::memcpy(room.data(), &size, sizeof(size));
    EXPECT_EQ(CopyMessage(room, copy), 0u);
  }
  const uint32_t most = kMaxMessage;
  std::memcpy(room.data(), &most, sizeof(most));
  EXPECT_EQ(CopyMessage(room, copy), kMaxMessage);
  EXPECT_EQ(CopyMessage(room, std::span(copy).first(100)), 0u);
}

// A client that writes nonsense into its shared memory gets its connection's thread to stop, and
// that is all: the others go on.
TEST(HostileMemoryTest, AServerThreadLeavesAtNonsense) {
  TempDir dir;
  UniqueFd ours, theirs;
  MakePair(&ours, &theirs);
  TestServer server(dir.path(), std::move(theirs), 2);
  Bytes bytes(sizeof(RequestHeader) + sizeof(OpenChannelRequest)), reply(kMaxMessage);
  Writer out(bytes);
  out.Put(RequestHeader{.size = static_cast<uint32_t>(bytes.size()),
                        .op = static_cast<uint16_t>(Op::kOpenChannel)});
  out.Put(OpenChannelRequest{.shared_memory = 1});
  for (const uint32_t size : {0u, 5u, 0x7fffffffu}) {
    Descriptors fds;
    ASSERT_TRUE(SendMessage(ours.get(), bytes, {}, Wait::kYes).ok());
    ASSERT_TRUE(ReceiveMessage(ours.get(), reply, &fds, Wait::kYes).ok());
    ASSERT_EQ(fds.count, 2u) << "no thread left";
    Result<ChannelMemory> memory = ChannelMemory::Map(fds.fd[1].get());
    ASSERT_TRUE(memory.ok());
    std::memcpy(memory->request_room().data(), &size, sizeof(size));
    memory->words().cpu.store(123456);
    memory->words().request.store(77);
    FutexWake(memory->words().request);
    char byte;  // the server closes its end
    EXPECT_EQ(::recv(fds.fd[0].get(), &byte, 1, 0), 0);
  }
  ours.reset();  // ends the server
}

}  // namespace
}  // namespace ringwall::gofer
