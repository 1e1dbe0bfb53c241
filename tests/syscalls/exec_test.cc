// execve: argv, environment, scripts, descriptors, signals, credentials and its errors.
#include <sys/auxv.h>
#include <sys/prctl.h>

#include <thread>

#include "tests/util/test_util.h"

extern char** environ;

namespace ringwall::test {
namespace {

constexpr char kBusybox[] = "/bin/busybox";

// Runs body in a child whose stdout is caught; returns what it wrote.
template <typename F>
std::string Output(F body, int* status) {
  Pipe p;
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(p.writer.get(), 1);
    p.reader.Reset();
    p.writer.Reset();
    body();
    _exit(127);
  }
  p.writer.Reset();
  std::string all;
  char chunk[4096];
  ssize_t n;
  while ((n = read(p.reader.get(), chunk, sizeof(chunk))) > 0) all.append(chunk, n);
  waitpid(pid, status, 0);
  return all;
}

class ExecTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access(kBusybox, X_OK) != 0) GTEST_SKIP() << "needs " << kBusybox;
  }
  std::string Shell(const char* script) {
    return Output([=] { execl(kBusybox, "sh", "-c", script, nullptr); }, &status_);
  }
  TempDir dir_;
  int status_ = -1;
};

TEST_F(ExecTest, ArgumentsAndStatusPass) {
  EXPECT_EQ(Output([] { execl(kBusybox, "echo", "a", "", "b c", nullptr); }, &status_), "a  b c\n");
  EXPECT_TRUE(Exited(status_));
  Shell("exit 9");
  EXPECT_TRUE(Exited(status_, 9));
}

TEST_F(ExecTest, EnvironmentIsWhatIsGiven) {
  char first[] = "A=1", second[] = "B=two words", sh[] = "env";
  char* const argv[] = {sh, nullptr};
  char* const envp[] = {first, second, nullptr};
  EXPECT_EQ(Output([&] { execve(kBusybox, argv, envp); }, &status_), "A=1\nB=two words\n");
}

TEST_F(ExecTest, EmptyArgvBecomesOneEmptyString) {
  // Since 5.18 Linux gives a program with no argv an empty argv[0].
  char* const none[] = {nullptr};
  Output([&] { execve(kBusybox, none, none); }, &status_);
  EXPECT_TRUE(WIFEXITED(status_));
}

TEST_F(ExecTest, ScriptRunsItsInterpreterWithOneArgument) {
  const std::string script = dir_.File("s", "#! \t/bin/busybox  echo \nignored\n", 0755);
  EXPECT_EQ(Output([&] { execl(script.c_str(), "zero", "last", nullptr); }, &status_),
            script + " last\n");
  const std::string outer = dir_.File("o", "#!" + script + "  one   two \n", 0755);
  EXPECT_EQ(Output([&] { execl(outer.c_str(), "zero", nullptr); }, &status_),
            script + " one   two " + outer + "\n");
}

TEST_F(ExecTest, ScriptOfAScript) {
  const std::string inner = dir_.File("inner", "#!/bin/busybox echo\n", 0755);
  const std::string outer = dir_.File("outer", "#!" + inner + " x\n", 0755);
  EXPECT_EQ(Output([&] { execl(outer.c_str(), "o", "y", nullptr); }, &status_),
            inner + " x " + outer + " y\n");
}

TEST_F(ExecTest, ScriptLoopIsEloop) {
  const std::string loop = dir_ / "loop";
  dir_.File("loop", "#!" + loop + "\n", 0755);
  EXPECT_FAILS(execl(loop.c_str(), "l", nullptr), ELOOP);
}

TEST_F(ExecTest, Errors) {
  EXPECT_FAILS(execl((dir_ / "none").c_str(), "x", nullptr), ENOENT);
  EXPECT_FAILS(execl(dir_.path().c_str(), "x", nullptr), EACCES);
  EXPECT_FAILS(execl(dir_.File("plain", "text", 0755).c_str(), "x", nullptr), ENOEXEC);
  EXPECT_FAILS(execl(dir_.File("empty", "", 0755).c_str(), "x", nullptr), ENOEXEC);
  EXPECT_FAILS(execl(dir_.File("noexec", "#!/bin/busybox sh\n", 0644).c_str(), "x", nullptr), EACCES);
  EXPECT_FAILS(execl(dir_.File("badsh", "#!/no/such/interpreter\n", 0755).c_str(), "x", nullptr),
               ENOENT);
  EXPECT_FAILS(execl(dir_.File("shortelf", "\177ELF\2\1\1", 0755).c_str(), "x", nullptr), ENOEXEC);
  EXPECT_FAILS(syscall(SYS_execve, BadAddress(), nullptr, nullptr), EFAULT);
  EXPECT_FAILS(syscall(SYS_execve, kBusybox, BadAddress(), nullptr), EFAULT);
  EXPECT_FAILS(execl((std::string(kBusybox) + "/x").c_str(), "x", nullptr), ENOTDIR);
}

TEST_F(ExecTest, ArgumentLimits) {
  std::string one(131072, 'a');  // MAX_ARG_STRLEN counts the terminator
  EXPECT_FAILS(execl(kBusybox, "true", one.c_str(), nullptr), E2BIG);
  one.resize(131071);
  EXPECT_TRUE(Exited(InChild([&] { return execl(kBusybox, "true", one.c_str(), nullptr); })));
  std::vector<char*> argv(80, one.data());  // far over a quarter of the 8 MiB stack
  argv.push_back(nullptr);
  EXPECT_FAILS(execv(kBusybox, argv.data()), E2BIG);
}

TEST_F(ExecTest, ManyArgumentsArrive) {
  std::vector<std::string> words;
  std::vector<char*> argv;
  char name[] = "echo";
  argv.push_back(name);
  std::string want;
  for (int i = 0; i < 5000; ++i) words.push_back(std::to_string(i));
  for (auto& w : words) {
    argv.push_back(w.data());
    want += (want.empty() ? "" : " ") + w;
  }
  argv.push_back(nullptr);
  EXPECT_EQ(Output([&] { execv(kBusybox, argv.data()); }, &status_), want + "\n");
}

TEST_F(ExecTest, CloseOnExecCloses) {
  Fd keep(fcntl(0, F_DUPFD, 20)), gone(fcntl(0, F_DUPFD_CLOEXEC, 21));
  ASSERT_EQ(keep.get(), 20);
  ASSERT_EQ(gone.get(), 21);
  EXPECT_EQ(Shell("for n in 20 21; do [ -e /proc/self/fd/$n ] && echo $n; done"), "20\n");
}

TEST_F(ExecTest, HandlersResetAndIgnoredStay) {
  EXPECT_EQ(Output([] {
              signal(SIGUSR1, [](int) {});
              signal(SIGUSR2, SIG_IGN);
              execl(kBusybox, "grep", "-E", "SigIgn|SigCgt", "/proc/self/status", nullptr);
            }, &status_),
            "SigIgn:\t0000000000000800\nSigCgt:\t0000000000000000\n");
}

TEST_F(ExecTest, BlockedSignalsAndPendingOnesSurvive) {
  EXPECT_EQ(Output([] {
              sigset_t set;
              sigemptyset(&set);
              sigaddset(&set, SIGUSR1);
              sigprocmask(SIG_BLOCK, &set, nullptr);
              kill(getpid(), SIGUSR1);
              execl(kBusybox, "grep", "-E", "SigBlk|ShdPnd", "/proc/self/status", nullptr);
            }, &status_),
            "ShdPnd:\t0000000000000200\nSigBlk:\t0000000000000200\n");
}

TEST_F(ExecTest, OtherThreadsEnd) {
  EXPECT_EQ(Output([] {
              for (int i = 0; i < 3; ++i) std::thread([] { for (;;) pause(); }).detach();
              execl(kBusybox, "sh", "-c", "ls /proc/self/task | wc -l", nullptr);
            }, &status_),
            "1\n");
  EXPECT_TRUE(Exited(status_));
}

TEST_F(ExecTest, AThreadThatIsNotTheLeaderTakesItsPid) {
  Pipe p;
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(p.writer.get(), 1);
    std::thread([] { execl(kBusybox, "sh", "-c", "echo $$", nullptr); }).join();
    _exit(1);
  }
  p.writer.Reset();
  char b[32] = {};
  EXPECT_GT(read(p.reader.get(), b, sizeof(b) - 1), 0);
  EXPECT_EQ(atoi(b), pid);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST_F(ExecTest, NameOfTheProgramIsItsFile) {
  const std::string path = dir_ / "a-name-longer-than-15";
  ASSERT_OK(symlink(kBusybox, path.c_str()));
  EXPECT_EQ(Output([&] { execl(path.c_str(), "cat", "/proc/self/comm", nullptr); }, &status_),
            "a-name-longer-t\n");
}

TEST_F(ExecTest, FexecveAndExecveat) {
  Fd fd(open(kBusybox, O_RDONLY | O_CLOEXEC));
  char echo[] = "echo", hi[] = "hi";
  char* const argv[] = {echo, hi, nullptr};
  EXPECT_EQ(Output([&] { syscall(SYS_execveat, fd.get(), "", argv, environ, AT_EMPTY_PATH); },
                   &status_),
            "hi\n");
  Fd bin(open("/bin", O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(Output([&] { syscall(SYS_execveat, bin.get(), "busybox", argv, environ, 0); }, &status_),
            "hi\n");
  EXPECT_FAILS(syscall(SYS_execveat, bin.get(), "busybox", argv, environ, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_execveat, 999, "busybox", argv, environ, 0), EBADF);
}

TEST_F(ExecTest, OpenForWritingIsTextBusy) {
  const std::string copy = dir_ / "copy";
  Shell(("cp /bin/busybox " + copy).c_str());
  ASSERT_TRUE(Exited(status_));
  Fd writer(open(copy.c_str(), O_WRONLY));
  ASSERT_TRUE(writer.ok());
  EXPECT_FAILS(execl(copy.c_str(), "true", nullptr), ETXTBSY);
}

TEST_F(ExecTest, SetuidFileChangesTheEffectiveUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  const std::string copy = dir_ / "copy";
  Shell(("cp /bin/cat " + copy).c_str());  // busybox itself would drop the rights again
  ASSERT_TRUE(Exited(status_));
  ASSERT_OK(chown(copy.c_str(), 1234, 1234));
  ASSERT_OK(chmod(copy.c_str(), 04755));
  const auto uids = [&](bool no_new_privs) {
    const std::string all = Output([&] {
      if (no_new_privs) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      if (setresuid(65534, 65534, 65534) != 0) _exit(1);
      execl(copy.c_str(), "cat", "/proc/self/status", nullptr);
    }, &status_);
    const size_t at = all.find("Uid:");
    return at == std::string::npos ? all : all.substr(at, all.find('\n', at) - at);
  };
  EXPECT_EQ(uids(false), "Uid:\t65534\t1234\t1234\t1234");
  EXPECT_EQ(uids(true), "Uid:\t65534\t65534\t65534\t65534");
}

TEST_F(ExecTest, VforkThenExec) {
  for (int i = 0; i < 20; ++i) {
    const pid_t pid = vfork();
    if (pid == 0) {
      execl(kBusybox, "true", nullptr);
      _exit(1);
    }
    int status;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(Exited(status));
  }
}

// A parent goes on as soon as the child's old memory is gone, before the child is its new program: what it sends
// then must end that program.
TEST_F(ExecTest, SignalsSentDuringExecArrive) {
  sigset_t term, old;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  for (int i = 0; i < 200; ++i) {
    sigprocmask(SIG_BLOCK, &term, &old);
    const pid_t pid = vfork();
    if (pid == 0) {
      sigprocmask(SIG_UNBLOCK, &term, nullptr);
      execl(kBusybox, "sleep", "20", nullptr);
      _exit(1);
    }
    sigprocmask(SIG_SETMASK, &old, nullptr);
    ASSERT_GT(pid, 0);
    ASSERT_OK(kill(pid, SIGTERM));
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status << " in turn " << i;
  }
}

TEST_F(ExecTest, DynamicProgramRuns) {
  if (access("/bin/cat", X_OK) != 0) GTEST_SKIP() << "needs /bin/cat";
  const std::string file = dir_.File("f", "dynamic");
  EXPECT_EQ(Output([&] { execl("/bin/cat", "cat", file.c_str(), nullptr); }, &status_), "dynamic");
  EXPECT_TRUE(Exited(status_));
}

TEST_F(ExecTest, ARemovedProgramRunsOn) {
  const std::string copy = dir_ / "copy";
  Shell(("cp /bin/busybox " + copy).c_str());
  EXPECT_EQ(Output([&] {
              execl(copy.c_str(), "sh", "-c", ("rm " + copy + "; readlink /proc/$$/exe").c_str(),
                    nullptr);
            }, &status_),
            copy + " (deleted)\n");
}

TEST(AuxvTest, TellsAboutThisProcess) {
  EXPECT_EQ(getauxval(AT_PAGESZ), 4096u);
  EXPECT_EQ(getauxval(AT_UID), getuid());
  EXPECT_EQ(getauxval(AT_EUID), geteuid());
  EXPECT_EQ(getauxval(AT_SECURE), 0u);
  EXPECT_EQ(getauxval(AT_CLKTCK), 100u);
  EXPECT_NE(getauxval(AT_RANDOM), 0u);
  EXPECT_NE(getauxval(AT_SYSINFO_EHDR), 0u);
  EXPECT_STREQ(reinterpret_cast<const char*>(getauxval(AT_PLATFORM)), "x86_64");
  EXPECT_NE(getauxval(AT_EXECFN), 0u);
}

TEST(AuxvTest, RandomBytesAreThereAndAForkKeepsThem) {
  const std::string ours(reinterpret_cast<const char*>(getauxval(AT_RANDOM)), 16);
  EXPECT_NE(ours, std::string(16, '\0'));
  EXPECT_TRUE(Exited(InChild([&] {
    return memcmp(reinterpret_cast<const char*>(getauxval(AT_RANDOM)), ours.data(), 16);
  })));
}

}  // namespace
}  // namespace ringwall::test
