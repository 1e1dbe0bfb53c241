// What a path costs: BM_StatCached/depth walks to a file `depth` directories down and reads its
// attributes; everything is in the dentry cache.
#include <benchmark/benchmark.h>

#include "fs/overlay/memory_upper.h"
#include "fs/tmpfs/tmpfs.h"
#include "fs/vfs/vfs.h"

namespace ringwall {
namespace {

struct Tree {
  explicit Tree(bool overlay) {
    Ref<FileSystem> fs = TmpfsFileSystem::Create({.mode = 0755});
    if (overlay) {
      Result<Ref<FileSystem>> over = OverlayOnMemory(std::move(fs), {});
      fs = std::move(*over);
    }
    mounts = RefPtr<MountNamespace>(MakeRef<MountNamespace>(Mount::Make(std::move(fs), 0, "t")));
    root = mounts->root();
    const char* const names[] = {"usr", "lib", "x86_64-linux-gnu", "perl", "debian", "5.36"};
    for (const char* name : names) {
      path += std::string("/") + name;
      (void)Vfs::Mkdir(walk(), path, 0755).ok();
      const std::string file = path + "/libc.so.6";
      (void)Vfs::Open(walk(), file, O_CREAT | O_RDWR, 0644, nullptr).ok();
      files.push_back(file);
    }
    (void)Vfs::Symlink(walk(), "usr/lib", "/lib").ok();
  }
  Walk walk() { return {*creds, *mounts, root, root}; }

  Ref<const Credentials> creds = Credentials::Root();
  RefPtr<MountNamespace> mounts;
  Path root;
  std::string path;
  std::vector<std::string> files;
};

void StatLoop(benchmark::State& state, Tree& tree, const std::string& path, bool attributes) {
  for (auto _ : state) {
    const Result<Path> at = Vfs::Lookup(tree.walk(), path, {});
    if (attributes && at.ok()) benchmark::DoNotOptimize(Vfs::Stat(*at));
    benchmark::DoNotOptimize(at.ok());
  }
}

void BM_StatCached(benchmark::State& state) {
  Tree tree(false);
  StatLoop(state, tree, tree.files[static_cast<size_t>(state.range(0)) - 1], true);
}
BENCHMARK(BM_StatCached)->Arg(1)->Arg(3)->Arg(6);

void BM_StatCachedOverlay(benchmark::State& state) {
  Tree tree(true);
  StatLoop(state, tree, tree.files[static_cast<size_t>(state.range(0)) - 1], true);
}
BENCHMARK(BM_StatCachedOverlay)->Arg(3);

void BM_LookupCached(benchmark::State& state) {
  Tree tree(false);
  StatLoop(state, tree, tree.files[static_cast<size_t>(state.range(0)) - 1], false);
}
BENCHMARK(BM_LookupCached)->Arg(1)->Arg(3)->Arg(6)->Threads(1)->Threads(2);

void BM_LookupMissing(benchmark::State& state) {
  Tree tree(false);
  StatLoop(state, tree, "/usr/lib/missing.so.1", false);
}
BENCHMARK(BM_LookupMissing);

void BM_LookupThroughLink(benchmark::State& state) {
  Tree tree(false);
  StatLoop(state, tree, "/lib/libc.so.6", false);
}
BENCHMARK(BM_LookupThroughLink);

void BM_OpenClose(benchmark::State& state) {
  Tree tree(false);
  for (auto _ : state) {
    benchmark::DoNotOptimize(Vfs::Open(tree.walk(), tree.files[2], O_RDONLY, 0, nullptr));
  }
}
BENCHMARK(BM_OpenClose);

void BM_CreateUnlink(benchmark::State& state) {
  Tree tree(state.range(0) != 0);
  for (auto _ : state) {
    (void)Vfs::Open(tree.walk(), "/usr/new", O_CREAT | O_WRONLY, 0644, nullptr).ok();
    (void)Vfs::Unlink(tree.walk(), "/usr/new").ok();
  }
}
BENCHMARK(BM_CreateUnlink)->Arg(0)->Arg(1);

}  // namespace
}  // namespace ringwall

BENCHMARK_MAIN();
