// Round trips to a gofer process, over its socket and over shared memory, beside the host call that
// each stands for. Real time: both processes count.
#include <benchmark/benchmark.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "gofer/client/client.h"
#include "gofer/main.h"

namespace ringwall::gofer {
namespace {

constexpr int kEntries = 1700;

struct Setup {
  Setup() {
    char path[] = "/tmp/gofer_benchmark.XXXXXX";
    dir = ::mkdtemp(path);
    ::mkdir((dir + "/a").c_str(), 0755);
    ::mkdir((dir + "/a/b").c_str(), 0755);
    ::mkdir((dir + "/many").c_str(), 0755);
    UniqueFd(::open((dir + "/a/b/file").c_str(), O_CREAT | O_RDWR, 0644));
    for (int i = 0; i < kEntries; ++i) {
      UniqueFd(::open((dir + "/many/entry" + std::to_string(i)).c_str(), O_CREAT | O_RDWR, 0644));
    }
  }
  ~Setup() {
    if (::system(("rm -rf " + dir).c_str()) != 0) ::abort();
  }
  std::string dir;
};

const std::string& Dir() {
  static Setup setup;
  return setup.dir;
}

RefPtr<GoferClient> Connect(bool shared_memory) {
  int pair[2];
  RW_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
  const std::string& dir = Dir();
  if (::fork() == 0) {
    GoferOptions options;
    options.socket = UniqueFd(pair[1]);
    ::close(pair[0]);
    options.roots.push_back(
        {.fd = UniqueFd(::open(dir.c_str(), O_PATH | O_CLOEXEC)), .read_only = false});
    ::_exit(GoferMain(std::move(options)));
  }
  ::close(pair[1]);
  Result<Ref<GoferClient>> client =
      GoferClient::Create(UniqueFd(pair[0]), {.shared_memory = shared_memory});
  RW_CHECK(client.ok());
  return RefPtr<GoferClient>(std::move(*client));
}

// One gofer for each transport, shared by the threads of a benchmark.
GoferClient& Client(bool shared_memory) {
  static RefPtr<GoferClient> clients[2] = {Connect(false), Connect(true)};
  return *clients[shared_memory];
}

GoferHandle AttachTo(GoferClient& client) {
  return std::move(client.Attach(0).value().node.handle);
}

void BM_GoferStat(benchmark::State& state) {
  GoferClient& client = Client(state.range(0) != 0);
  const GoferHandle root = AttachTo(client);
  for (auto _ : state) RW_CHECK(client.Stat(root).ok());
}
BENCHMARK(BM_GoferStat)->Arg(0)->Arg(1)->UseRealTime()->ThreadRange(1, 4);

// Requests with a little guest work between them, as a program's calls come.
void BM_GoferStatPaced(benchmark::State& state) {
  GoferClient& client = Client(state.range(0) != 0);
  const GoferHandle root = AttachTo(client);
  for (auto _ : state) {
    RW_CHECK(client.Stat(root).ok());
    timespec start, now;
    ::clock_gettime(CLOCK_MONOTONIC, &start);
    do {
      ::clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec <
             state.range(1) * 1000);
  }
}
BENCHMARK(BM_GoferStatPaced)->ArgsProduct({{0, 1}, {2, 10, 50, 200}})->UseRealTime();

void BM_GoferWalkStat(benchmark::State& state) {
  GoferClient& client = Client(state.range(0) != 0);
  const GoferHandle root = AttachTo(client);
  const std::string_view names[] = {"a", "b", "file"};
  for (auto _ : state) RW_CHECK(client.Walk(root, names, 0)->error == 0);
}
BENCHMARK(BM_GoferWalkStat)->Arg(0)->Arg(1)->UseRealTime();

void BM_GoferWalkOpen(benchmark::State& state) {
  GoferClient& client = Client(state.range(0) != 0);
  const GoferHandle root = AttachTo(client);
  const std::string_view names[] = {"a", "b", "file"};
  for (auto _ : state) {
    RW_CHECK(client.Walk(root, names, kWalkHandleLast | kWalkOpen, O_RDONLY)->fd.valid());
  }
}
BENCHMARK(BM_GoferWalkOpen)->Arg(0)->Arg(1)->UseRealTime();

void BM_GoferReadDir(benchmark::State& state) {
  GoferClient& client = Client(state.range(0) != 0);
  const GoferHandle root = AttachTo(client);
  const GoferNode dir = std::move(client.Lookup(root, "many").value());
  const bool with_attr = state.range(1) != 0;
  for (auto _ : state) {
    uint64_t offset = 0;
    int seen = 0;
    while (true) {
      const DirBatch batch = std::move(client.ReadDir(dir.handle, offset, with_attr).value());
      seen += static_cast<int>(batch.entries.size());
      if (batch.end) break;
      offset = batch.entries.back().next;
    }
    RW_CHECK(seen == kEntries);
  }
}
BENCHMARK(BM_GoferReadDir)->ArgsProduct({{0, 1}, {0, 1}})->UseRealTime();

void BM_HostStat(benchmark::State& state) {
  struct stat buf;
  for (auto _ : state) RW_CHECK(::lstat(Dir().c_str(), &buf) == 0);
}
BENCHMARK(BM_HostStat)->UseRealTime();

void BM_HostWalkOpen(benchmark::State& state) {
  struct stat buf;
  const std::string path = Dir() + "/a/b/file";
  for (auto _ : state) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    RW_CHECK(::fstat(fd.get(), &buf) == 0);
  }
}
BENCHMARK(BM_HostWalkOpen)->UseRealTime();

void BM_HostReadDir(benchmark::State& state) {
  struct stat buf;
  const bool with_attr = state.range(0) != 0;
  for (auto _ : state) {
    DIR* dir = ::opendir((Dir() + "/many").c_str());
    while (const dirent* entry = ::readdir(dir)) {
      if (with_attr) ::fstatat(::dirfd(dir), entry->d_name, &buf, AT_SYMLINK_NOFOLLOW);
    }
    ::closedir(dir);
  }
}
BENCHMARK(BM_HostReadDir)->Arg(0)->Arg(1)->UseRealTime();

}  // namespace
}  // namespace ringwall::gofer

BENCHMARK_MAIN();
