#include "sentry/loader/loader.h"

#include <cpuid.h>
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <string>

#include "sentry/mm/testing/fake_address_space.h"
#include "sentry/mm/testing/memory_file.h"

namespace ringwall {
namespace {

using testing::FakePlatform;
using testing::MemoryFile;

// A tree of one directory.
class TestFs final : public FileSystem {
 public:
  std::string_view type_name() const override { return "testfs"; }
  Ref<Inode> root() override { return Ref<Inode>(*root_.get()); }
  Result<StatFs> GetStatFs() override { return StatFs{}; }
  RefPtr<Inode> root_;
};

class TestProgram final : public Inode {
 public:
  TestProgram(FileSystem& fs, std::string content, uint32_t mode, Uid uid)
      : Inode(fs, S_IFREG), content_(std::move(content)), mode_(mode), uid_(uid) {}
  Result<Attr> GetAttr() override {
    return Attr{.mode = S_IFREG | mode_, .uid = uid_, .gid = uid_, .size = content_.size()};
  }
  Result<void> Set(const SetAttr&) override { return Errno(EPERM); }
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials&) override {
    UniqueFd memory(::memfd_create("program", MFD_CLOEXEC));
    RW_CHECK(::pwrite(memory.get(), content_.data(), content_.size(), 0) ==
             static_cast<ssize_t>(content_.size()));
    return Ref<File>(MakeRef<MemoryFile>(path, flags, std::move(memory)));
  }

 private:
  const std::string content_;
  const uint32_t mode_;
  const Uid uid_;
};

class TestDirectory final : public Inode {
 public:
  explicit TestDirectory(FileSystem& fs) : Inode(fs, S_IFDIR) {}
  Result<Attr> GetAttr() override { return Attr{.mode = S_IFDIR | 0755}; }
  Result<void> Set(const SetAttr&) override { return Errno(EPERM); }
  Result<Ref<Inode>> Lookup(std::string_view name) override {
    const auto it = entries.find(std::string(name));
    if (it == entries.end()) return Errno(ENOENT);
    return it->second;
  }
  Result<Ref<File>> Open(const Path&, uint32_t, const Credentials&) override {
    return Errno(EISDIR);
  }
  std::map<std::string, Ref<Inode>> entries;
};

struct ElfBuilder {
  Elf64_Ehdr e = {};
  std::vector<Elf64_Phdr> table;
  std::string body;  // from offset 0x1000

  explicit ElfBuilder(uint16_t type) {
    memcpy(e.e_ident, ELFMAG, SELFMAG);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_type = type;
    e.e_machine = EM_X86_64;
    e.e_phoff = sizeof(e);
    e.e_phentsize = sizeof(Elf64_Phdr);
  }
  ElfBuilder& Add(uint32_t type, uint32_t flags, uint64_t offset, uint64_t vaddr, uint64_t filesz,
                  uint64_t memsz) {
    table.push_back({type, flags, offset, vaddr, vaddr, filesz, memsz, 0x1000});
    return *this;
  }
  std::string Build() {
    e.e_phnum = static_cast<uint16_t>(table.size());
    std::string out(0x1000, '\0');
    memcpy(out.data(), &e, sizeof(e));
    memcpy(out.data() + sizeof(e), table.data(), table.size() * sizeof(Elf64_Phdr));
    return out + body;
  }
};

// Text at `base`, data with a bss of several pages behind it.
std::string Program(uint16_t type, uint64_t base, std::string_view interpreter = {}) {
  ElfBuilder b(type);
  b.e.e_entry = base + 0x1010;
  b.Add(PT_LOAD, PF_R, 0, base, 0x400, 0x400);
  b.Add(PT_LOAD, PF_R | PF_X, 0x1000, base + 0x1000, 0x1000, 0x1000);
  b.Add(PT_LOAD, PF_R | PF_W, 0x2000, base + 0x2000, 0x100, 0x3000);
  b.Add(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0);
  b.body = std::string(0x1000, 'T') + std::string(0x100, 'D') + std::string(0x500, '!');
  if (!interpreter.empty()) {
    b.Add(PT_INTERP, PF_R, 0x800, base + 0x800, interpreter.size() + 1, interpreter.size() + 1);
  }
  std::string out = b.Build();
  out.replace(0x800, interpreter.size(), interpreter);
  return out;
}

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest()
      : fs_(MakeRef<TestFs>()),
        directory_(MakeRef<TestDirectory>(*fs_)) {
    fs_->root_ = RefPtr<Inode>(directory_.get());
    mount_ = MakeRef<Mount>(fs_, Dentry::MakeRoot(directory_), 0, "test");
    mounts_ = MakeRef<MountNamespace>(Ref<Mount>(mount_));
    root_ = mounts_->root();
  }
  ~LoaderTest() override { fs_->root_.reset(); }

  void Add(const std::string& name, std::string content, uint32_t mode = 0755, Uid uid = 0) {
    directory_->entries.insert_or_assign(
        name, Ref<Inode>(MakeRef<TestProgram>(*fs_, std::move(content), mode, uid)));
  }
  Result<LoadedImage> Load(const std::string& name, std::vector<std::string> argv = {"x"},
                           std::vector<std::string> envp = {"A=b"}) {
    const Walk walk{*creds_, *mounts_, root_, root_};
    const Path path = TRY(Vfs::Lookup(walk, name, {}));
    Ref<File> file = TRY(Vfs::OpenPath(walk, path, O_RDONLY | kOpenForExec, nullptr));
    LoadArgs args{.platform = platform_, .walk = walk};
    args.file = file;
    args.filename = name;
    args.argv = std::move(argv);
    args.envp = std::move(envp);
    args.randomize = randomize_;
    return LoadExecutable(std::move(args));
  }
  int LoadError(const std::string& name) { return Load(name).error_value(); }
  std::string Bytes(MemoryManager& mm, uint64_t at, size_t n) {
    std::string s(n, '?');
    EXPECT_TRUE(mm.CopyIn(GuestAddr(at), std::as_writable_bytes(std::span(s))).ok());
    return s;
  }
  static uint64_t Aux(const LoadedImage& image, uint64_t type) {
    const std::vector<uint64_t> aux = image.mm->auxv();
    for (size_t i = 0; i + 1 < aux.size(); i += 2) {
      if (aux[i] == type) return aux[i + 1];
    }
    return ~uint64_t{0};
  }
  std::vector<std::string> Argv(const LoadedImage& image) {
    std::vector<std::string> argv;
    uint64_t argc = 0;
    const GuestAddr sp(image.regs.rsp);
    EXPECT_TRUE(image.mm->CopyIn(sp, std::as_writable_bytes(std::span(&argc, 1))).ok());
    for (uint64_t i = 0; i < argc; ++i) {
      uint64_t at = 0;
      EXPECT_TRUE(
          image.mm->CopyIn(sp + 8 + i * 8, std::as_writable_bytes(std::span(&at, 1))).ok());
      argv.push_back(*image.mm->CopyInString(GuestAddr(at), 1 << 20));
    }
    return argv;
  }

  FakePlatform platform_;
  Ref<TestFs> fs_;
  Ref<TestDirectory> directory_;
  RefPtr<Mount> mount_;
  RefPtr<MountNamespace> mounts_;
  Path root_;
  Ref<const Credentials> creds_ = Credentials::Root();
  bool randomize_ = true;
};

TEST_F(LoaderTest, AStaticProgramLiesWhereItSays) {
  Add("p", Program(ET_EXEC, 0x400000));
  const Result<LoadedImage> image = Load("/p");
  ASSERT_TRUE(image.ok());
  MemoryManager& mm = *image->mm;
  EXPECT_EQ(image->regs.rip, 0x401010u);
  EXPECT_EQ(image->regs.rsp % 16, 0u);
  EXPECT_EQ(image->comm, "p");
  EXPECT_EQ(Bytes(mm, 0x401000, 4), "TTTT");
  EXPECT_EQ(Bytes(mm, 0x4020fe, 4), std::string("DD\0\0", 4));  // the page's rest is zeroed
  EXPECT_EQ(Bytes(mm, 0x404ffe, 2), std::string(2, '\0'));
  EXPECT_FALSE(mm.Find(GuestAddr(0x405000)).has_value());
  EXPECT_EQ(mm.Find(GuestAddr(0x401000))->prot, PROT_READ | PROT_EXEC);
  EXPECT_EQ(mm.Find(GuestAddr(0x403000))->prot, PROT_READ | PROT_WRITE);
  EXPECT_GE(mm.Brk(GuestAddr(), {}).value(), 0x405000u);
  EXPECT_EQ(mm.Find(GuestAddr(image->regs.rsp))->prot, PROT_READ | PROT_WRITE);
  EXPECT_EQ(mm.layout().start_code, GuestAddr(0x401000));
  EXPECT_EQ(mm.layout().end_data, GuestAddr(0x402100));
  EXPECT_EQ(Argv(*image), std::vector<std::string>{"x"});
}

TEST_F(LoaderTest, TheAuxiliaryVectorIsTrue) {
  platform_.vdso = {GuestAddr(0x7000'0000'0000), GuestAddr(0x7000'0000'2000)};
  Add("p", Program(ET_EXEC, 0x400000));
  const Result<LoadedImage> image = Load("/p");
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(Aux(*image, AT_SYSINFO_EHDR), 0x7000'0000'0000u);
  EXPECT_EQ(Aux(*image, AT_PHDR), 0x400040u);
  EXPECT_EQ(Aux(*image, AT_PHNUM), 4u);
  EXPECT_EQ(Aux(*image, AT_ENTRY), 0x401010u);
  EXPECT_EQ(Aux(*image, AT_BASE), 0u);
  EXPECT_EQ(Aux(*image, AT_SECURE), 0u);
  // The kernel's word: static glibc answers getauxval(AT_HWCAP) from a table of its own.
  uint32_t eax, ebx, ecx, edx;
  ASSERT_NE(__get_cpuid(1, &eax, &ebx, &ecx, &edx), 0);
  EXPECT_EQ(Aux(*image, AT_HWCAP), edx);
  EXPECT_EQ(*image->mm->CopyInString(GuestAddr(Aux(*image, AT_EXECFN)), 100), "/p");
  EXPECT_EQ(*image->mm->CopyInString(GuestAddr(Aux(*image, AT_PLATFORM)), 100), "x86_64");
  EXPECT_NE(Bytes(*image->mm, Aux(*image, AT_RANDOM), 16), std::string(16, '\0'));
}

TEST_F(LoaderTest, APieAndItsInterpreterAreMovedTogether) {
  Add("ld", Program(ET_DYN, 0));
  Add("p", Program(ET_DYN, 0, "/ld"));
  const Result<LoadedImage> image = Load("/p");
  ASSERT_TRUE(image.ok());
  const uint64_t base = Aux(*image, AT_BASE), bias = Aux(*image, AT_PHDR) - 0x40;
  EXPECT_EQ(image->regs.rip, base + 0x1010);
  EXPECT_EQ(Aux(*image, AT_ENTRY), bias + 0x1010);
  EXPECT_GE(bias, 0x5555'5555'4000u);
  EXPECT_GT(base, bias);
  EXPECT_EQ(Bytes(*image->mm, bias + 0x1000, 2), "TT");
  EXPECT_EQ(Bytes(*image->mm, base + 0x2100, 2), std::string(2, '\0'));
  EXPECT_NE(bias, Aux(*Load("/p"), AT_PHDR) - 0x40);
  randomize_ = false;
  EXPECT_EQ(Aux(*Load("/p"), AT_PHDR), 0x5555'5555'4040u);
}

TEST_F(LoaderTest, AStaticPieHasItsHeapElsewhere) {
  Add("p", Program(ET_DYN, 0));
  const Result<LoadedImage> image = Load("/p");
  ASSERT_TRUE(image.ok());
  EXPECT_GT(image->regs.rip, 0x6000'0000'0000u);
  const GuestAddr brk = image->mm->Brk(GuestAddr(), {});
  EXPECT_LT(brk.value(), 0x6000'0000'0000u);
  EXPECT_EQ(image->mm->Brk(brk + 5000, {}), brk + 5000);
}

TEST_F(LoaderTest, InterpreterErrorsAreLinuxs) {
  Add("p", Program(ET_DYN, 0, "/ld"));
  EXPECT_EQ(LoadError("/p"), ENOENT);
  Add("ld", std::string(4096, 'x'));
  Add("q", Program(ET_DYN, 0, "/ld"));  // a fresh name: /ld is known to be missing
  EXPECT_NE(LoadError("/q"), 0);
  Add("ld2", std::string(4096, 'x'));
  Add("r", Program(ET_DYN, 0, "/ld2"));
  EXPECT_EQ(LoadError("/r"), ELIBBAD);
  Add("ld3", "short");
  Add("s", Program(ET_DYN, 0, "/ld3"));
  EXPECT_EQ(LoadError("/s"), EIO);
  Add("ld4", Program(ET_DYN, 0), 0644);
  Add("t", Program(ET_DYN, 0, "/ld4"));
  EXPECT_EQ(LoadError("/t"), EACCES);
  Add("u", Program(ET_DYN, 0, "/"));
  EXPECT_EQ(LoadError("/u"), EACCES);
}

TEST_F(LoaderTest, WhatIsNoProgramIsRefused) {
  Add("empty", "");
  Add("text", "hello\n");
  Add("cut", Program(ET_EXEC, 0x400000).substr(0, 100));
  Add("low", Program(ET_EXEC, 0x1000));
  Add("high", Program(ET_EXEC, 0x7ffd'ffff'e000));
  EXPECT_EQ(LoadError("/empty"), ENOEXEC);
  EXPECT_EQ(LoadError("/text"), ENOEXEC);
  EXPECT_EQ(LoadError("/cut"), ENOEXEC);
  EXPECT_EQ(LoadError("/low"), EPERM);
  EXPECT_EQ(LoadError("/high"), EINVAL);
}

TEST_F(LoaderTest, AScriptRunsItsInterpreter) {
  Add("sh", Program(ET_EXEC, 0x400000));
  Add("script", "#!/sh -e -u\n");
  Add("meta", "#! /script\n");
  const Result<LoadedImage> image = Load("/script", {"zero", "one"});
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(Argv(*image), (std::vector<std::string>{"/sh", "-e -u", "/script", "one"}));
  EXPECT_EQ(image->comm, "script");
  EXPECT_EQ(*image->mm->CopyInString(GuestAddr(Aux(*image, AT_EXECFN)), 100), "/script");
  EXPECT_EQ(Argv(*Load("/meta", {"zero", "one"})),
            (std::vector<std::string>{"/sh", "-e -u", "/script", "/meta", "one"}));
}

TEST_F(LoaderTest, ScriptsOfScriptsEnd) {
  Add("sh", Program(ET_EXEC, 0x400000));
  Add("s1", "#!/sh\n");
  for (int i = 2; i <= 6; ++i) {
    Add("s" + std::to_string(i), "#!/s" + std::to_string(i - 1) + "\n");
  }
  EXPECT_EQ(LoadError("/s5"), 0);
  EXPECT_EQ(LoadError("/s6"), ELOOP);
  Add("loop", "#!/loop\n");
  EXPECT_EQ(LoadError("/loop"), ELOOP);
  Add("gone", "#!/nothing\n");
  EXPECT_EQ(LoadError("/gone"), ENOENT);
}

TEST_F(LoaderTest, SetIdBitsAreReported) {
  Add("su", Program(ET_EXEC, 0x400000), 04755, 1000);
  Add("sg", Program(ET_EXEC, 0x400000), 02755, 1000);
  Add("lock", Program(ET_EXEC, 0x400000), 02745, 1000);
  EXPECT_EQ(Load("/su")->setuid, 1000u);
  EXPECT_EQ(Aux(*Load("/su"), AT_EUID), 1000u);
  EXPECT_EQ(Aux(*Load("/su"), AT_SECURE), 1u);
  EXPECT_EQ(Load("/sg")->setgid, 1000u);
  EXPECT_FALSE(Load("/lock")->setgid.has_value());
  mount_->set_flags(MS_NOSUID);
  EXPECT_FALSE(Load("/su")->setuid.has_value());
  mount_->set_flags(0);
  Ref<Credentials> creds = creds_->Copy();
  creds->no_new_privs = true;
  creds_ = creds;
  EXPECT_FALSE(Load("/su")->setuid.has_value());
}

TEST_F(LoaderTest, AnUnreadableProgramRuns) {
  Add("p", Program(ET_EXEC, 0x400000), 0711);
  EXPECT_FALSE(Load("/p")->unreadable);
  Ref<Credentials> creds = MakeRef<Credentials>();
  creds->ruid = creds->euid = creds->suid = creds->fsuid = 7;
  creds->rgid = creds->egid = creds->sgid = creds->fsgid = 7;
  creds_ = creds;
  EXPECT_TRUE(Load("/p")->unreadable);
}

TEST_F(LoaderTest, TooManyArgumentsAreRefused) {
  Add("p", Program(ET_EXEC, 0x400000));
  EXPECT_EQ(Load("/p", std::vector<std::string>(30, std::string(100'000, 'a'))).error_value(),
            E2BIG);
  const Result<LoadedImage> image =
      Load("/p", std::vector<std::string>(10, std::string(100'000, 'a')));
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(Argv(*image).size(), 10u);
}

TEST_F(LoaderTest, ARealProgramOfTheHostLoads) {
  const auto read = [](const char* path) {
    std::string content;
    UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
    char buffer[4096];
    for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof(buffer))) > 0;) {
      content.append(buffer, static_cast<size_t>(n));
    }
    return content;
  };
  const std::string program = read("/bin/true"), ld = read("/lib64/ld-linux-x86-64.so.2");
  ASSERT_FALSE(program.empty() || ld.empty());
  Add("true", program);
  auto lib64 = MakeRef<TestDirectory>(*fs_);
  lib64->entries.emplace("ld-linux-x86-64.so.2", MakeRef<TestProgram>(*fs_, ld, 0755u, 0u));
  directory_->entries.emplace("lib64", lib64);
  const Result<LoadedImage> image = Load("/true");
  ASSERT_TRUE(image.ok());
  const uint64_t base = Aux(*image, AT_BASE);
  EXPECT_EQ(Bytes(*image->mm, base, 64), ld.substr(0, 64));
  EXPECT_EQ(image->mm->Find(GuestAddr(image->regs.rip))->prot, PROT_READ | PROT_EXEC);
  EXPECT_EQ(image->mm->Find(GuestAddr(Aux(*image, AT_ENTRY)))->prot, PROT_READ | PROT_EXEC);
  // One order for all mappings: the copies are no changes.
  EXPECT_LE(platform_.last->calls, 16);
}

}  // namespace
}  // namespace ringwall
