// A gofer server on a thread of the test, a client of it, and a directory of the host between them.
#ifndef RINGWALL_GOFER_TESTING_FIXTURE_H_
#define RINGWALL_GOFER_TESTING_FIXTURE_H_

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>

#include "gofer/client/client.h"
#include "gofer/server/server.h"
#include "gtest/gtest.h"

namespace ringwall::gofer {

class TempDir {
 public:
  TempDir() {
    char path[] = "/tmp/gofer_test.XXXXXX";
    path_ = ::mkdtemp(path);
  }
  ~TempDir() {
    const std::string command = "rm -rf " + path_;
    if (::system(command.c_str()) != 0) ADD_FAILURE() << command;
  }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, std::string_view text, mode_t mode = 0644) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, mode));
  ASSERT_TRUE(fd) << path;
  ASSERT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

inline std::string ReadFd(int fd) {
  char buf[4096];
  const ssize_t got = ::pread(fd, buf, sizeof(buf), 0);
  return got < 0 ? "<error>" : std::string(buf, static_cast<size_t>(got));
}

inline size_t CountFds() {
  size_t count = 0;
  DIR* dir = ::opendir("/proc/self/fd");
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

inline void MakePair(UniqueFd* a, UniqueFd* b) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  a->reset(pair[0]);
  b->reset(pair[1]);
}

// Serves `dir` as root 0, writable, and as root 1, read-only.
class TestServer {
 public:
  explicit TestServer(const std::string& dir, UniqueFd socket, uint32_t channels = 3,
                      uint32_t max_handles = 1000, bool proc = true) {
    SessionOptions options;
    for (const bool read_only : {false, true}) {
      options.roots.push_back({.fd = UniqueFd(::open(dir.c_str(), O_PATH | O_CLOEXEC)),
                               .read_only = read_only,
                               .open_fifos = true,
                               .connect_sockets = !read_only,
                               .bind_sockets = !read_only});
    }
    // And root 2, which gives nothing but plain files.
    options.roots.push_back(
        {.fd = UniqueFd(::open(dir.c_str(), O_PATH | O_CLOEXEC)), .read_only = false});
    options.max_channels = channels;
    options.max_handles = max_handles;
    options.proc.available = proc;
    HostResult<std::unique_ptr<Server>> server =
        Server::Create(std::move(socket), std::move(options));
    RW_CHECK(server.ok());
    server_ = server.TakeValue();
    thread_ = std::thread([this] { server_->Serve(); });
  }
  // The client has to be gone by now.
  ~TestServer() { thread_.join(); }

  const HandleTable& handles() { return server_->session().handles_for_test(); }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

// The parameter: whether the channels have shared memory.
class GoferTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { Connect(); }
  void TearDown() override { Disconnect(); }
  void Disconnect() {
    root_.reset();
    client_.reset();
    server_.reset();
  }

  void Connect(uint32_t channels = 3, uint32_t max_handles = 1000, bool proc = true) {
    Disconnect();
    ::umask(0);
    UniqueFd ours, theirs;
    MakePair(&ours, &theirs);
    server_ =
        std::make_unique<TestServer>(dir_.path(), std::move(theirs), channels, max_handles, proc);
    Result<Ref<GoferClient>> client =
        GoferClient::Create(std::move(ours), {.shared_memory = GetParam()});
    ASSERT_TRUE(client.ok());
    client_ = RefPtr<GoferClient>(std::move(*client));
    root_ = AttachTo(0);
  }

  GoferHandle AttachTo(uint32_t root) {
    Result<AttachResult> attached = client_->Attach(root);
    EXPECT_TRUE(attached.ok());
    return std::move(attached->node.handle);
  }
  GoferHandle Find(std::string_view name) {
    Result<GoferNode> node = client_->Lookup(root_, name);
    EXPECT_TRUE(node.ok()) << name << ": " << node.error_value();
    return node.ok() ? std::move(node->handle) : GoferHandle();
  }
  // The host's own view.
  struct stat HostStat(std::string_view name) {
    struct stat buf = {};
    EXPECT_EQ(::lstat((dir_ / name).c_str(), &buf), 0) << name;
    return buf;
  }

  TempDir dir_;
  std::unique_ptr<TestServer> server_;
  RefPtr<GoferClient> client_;
  GoferHandle root_;
};

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_TESTING_FIXTURE_H_
