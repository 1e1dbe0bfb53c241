// The commands of runsc as its users run them, around a Boot that has no kernel (fake_boot.cc).
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

struct Output {
  int status = 0;
  std::string out, err;
  int code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }
};

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = RetryEintr([&] { return ::read(fd, buffer, sizeof(buffer)); })) > 0) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

// All living processes below `root`, by parent links.
std::set<pid_t> Descendants(pid_t root) {
  std::set<pid_t> found;
  for (bool grew = true; grew;) {
    grew = false;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const pid_t pid = atoi(entry.path().filename().c_str());
      if (pid == 0 || found.count(pid) != 0) continue;
      std::ifstream stat(entry.path() / "stat");
      std::string text;
      std::getline(stat, text);
      const size_t close = text.rfind(')');
      if (close == std::string::npos) continue;
      char state = 0;
      int parent = 0;
      if (sscanf(text.c_str() + close + 1, " %c %d", &state, &parent) != 2 || state == 'Z') continue;
      if (parent == root || found.count(parent) != 0) {
        found.insert(pid);
        grew = true;
      }
    }
  }
  return found;
}

bool IsGone(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return true;
  return text.find(") Z") != std::string::npos || text.find(") X") != std::string::npos;
}

template <typename F>
bool Eventually(F&& holds) {
  for (int i = 0; i < 1000; i++) {
    if (holds()) return true;
    usleep(10'000);
  }
  return false;
}

// A running command; its stdin, stdout and stderr are pipes.
class Process {
 public:
  explicit Process(const std::vector<std::string>& args, uid_t uid = 0) {
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
      if (uid != 0 && (setgid(uid) != 0 || setuid(uid) != 0)) _exit(99);
      std::vector<char*> argv = {const_cast<char*>(RUNSC_FAKE)};
      for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
      argv.push_back(nullptr);
      execv(RUNSC_FAKE, argv.data());
      _exit(98);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    in_.reset(in[1]);
    out_.reset(out[0]);
    err_.reset(err[0]);
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  pid_t pid() const { return pid_; }
  UniqueFd& in() { return in_; }
  int out() const { return out_.get(); }
  Output Finish() {
    in_.reset();
    Output output;
    output.out = ReadAll(out_.get());
    output.err = ReadAll(err_.get());
    RetryEintr([&] { return waitpid(pid_, &output.status, 0); });
    pid_ = -1;
    return output;
  }

 private:
  pid_t pid_;
  UniqueFd in_, out_, err_;
};

Output RunIt(const std::vector<std::string>& args, uid_t uid = 0) {
  return Process(args, uid).Finish();
}

class RunscTest : public testing::Test {
 protected:
  RunscTest() {
    char path[] = "/tmp/runsc-test-XXXXXX";
    directory_ = mkdtemp(path);
    std::filesystem::create_directories(directory_ + "/bundle/rootfs");
  }
  ~RunscTest() override {
    for (const auto& entry : List()) RunIt({"--root", Root(), "delete", "--force", entry});
    std::filesystem::remove_all(directory_);
  }
  std::string Root() const { return directory_ + "/state"; }
  std::string Bundle() const { return directory_ + "/bundle"; }
  std::vector<std::string> List() {
    std::vector<std::string> ids;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(Root(), error)) {
      ids.push_back(entry.path().filename());
    }
    return ids;
  }
  void WriteConfig(const std::string& args, const std::string& more = "") {
    std::ofstream(Bundle() + "/config.json")
        << "{\"ociVersion\":\"1.2.0\",\"process\":{\"cwd\":\"/\",\"args\":" << args
        << ",\"user\":{\"uid\":0,\"gid\":0}},\n\"root\":{\"path\":\"rootfs\"}" << more << "}";
  }
  Output Container(std::vector<std::string> args) {
    args.insert(args.begin(), {"--root", Root(), "--ignore-cgroups"});
    return RunIt(args);
  }
  // For what goes on in the background: with a pipe of ours as its stdout it would keep us waiting.
  int Detached(const std::string& args) {
    return system((std::string(RUNSC_FAKE) + " --root " + Root() + " --ignore-cgroups " + args +
                   " </dev/null >/dev/null 2>&1").c_str());
  }
  std::string StatusOf(const std::string& id) {
    const std::string json = Container({"state", id}).out;
    const size_t at = json.find("\"status\":\"");
    return at == std::string::npos ? json : json.substr(at + 10, json.find('"', at + 10) - at - 10);
  }
  std::string directory_;
};

TEST_F(RunscTest, DoGivesTheExitCode) {
  EXPECT_EQ(RunIt({"do", "exit", "0"}).code(), 0);
  EXPECT_EQ(RunIt({"do", "exit", "42"}).code(), 42);
}

TEST_F(RunscTest, DoPassesStdioThrough) {
  Process process({"do", "cat"});
  ASSERT_EQ(::write(process.in().get(), "hello", 5), 5);
  const Output output = process.Finish();
  EXPECT_EQ(output.out, "hello");
  EXPECT_EQ(output.err, "");
  EXPECT_EQ(output.code(), 0);
}

TEST_F(RunscTest, FlagsOfTheProgramAreItsOwn) {
  EXPECT_EQ(RunIt({"do", "--cwd", "/", "echo", "--cwd", "-v"}).out, "--cwd\n-v\n");
}

TEST_F(RunscTest, ProgramThatIsNotFoundIs127WithAReason) {
  const Output output = RunIt({"do", "missing"});
  EXPECT_EQ(output.code(), 127);
  EXPECT_NE(output.err.find("not found"), std::string::npos) << output.err;
}

TEST_F(RunscTest, NonsenseIs125AndNamesWhatWasMeant) {
  const Output output = RunIt({"run", "--bundel", "x"});
  EXPECT_EQ(output.code(), 125);
  EXPECT_NE(output.err.find("did you mean --bundle"), std::string::npos) << output.err;
  EXPECT_EQ(RunIt({"rum", "x"}).code(), 125);
}

TEST_F(RunscTest, SignalsReachTheProgram) {
  Process process({"do", "sleep"});
  // The Sentry and the gofer are up.
  ASSERT_TRUE(Eventually([&] { return Descendants(process.pid()).size() >= 2; }));
  kill(process.pid(), SIGTERM);
  EXPECT_EQ(process.Finish().code(), 128 + SIGTERM);
}

TEST_F(RunscTest, SentryHasNothingOfTheHost) {
  for (const uid_t uid : {0u, 65534u}) {
    const Output output = RunIt({"--network=none", "do", "facts"}, uid);
    EXPECT_EQ(output.err, "");
    EXPECT_EQ(output.out.find("pid 1 uid 65534 root-entries 0 no-new-privs 1 dumpable 1 "
                              "bounding 0 files"), 0u) << uid << ": " << output.out;
  }
}

TEST_F(RunscTest, StrictStartsWhereAllLayersHold) {
  EXPECT_EQ(RunIt({"--strict", "do", "exit", "7"}).code(), 7);
}

TEST_F(RunscTest, UnlistedHostCallKillsTheSentryAndTheCallerIsTold) {
  const Output output = RunIt({"do", "call", std::to_string(SYS_socket)});
  EXPECT_EQ(output.code(), 128 + SIGSYS);
  EXPECT_NE(output.err.find("Sentry was killed by signal 31"), std::string::npos) << output.err;
}

TEST_F(RunscTest, KilledPartsLeaveNoProcess) {
  // Each process of the sandbox in turn, by its place below the CLI.
  for (size_t victim = 0; victim < 2; victim++) {
    Process process({"--network=none", "do", "sleep"});
    std::set<pid_t> all;
    ASSERT_TRUE(Eventually([&] {
      all = Descendants(process.pid());
      return all.size() >= 2;
    }));
    kill(*std::next(all.begin(), static_cast<ptrdiff_t>(victim)), SIGKILL);
    const Output output = process.Finish();
    EXPECT_GE(output.code(), 128);
    EXPECT_NE(output.err.find(victim == 0 ? "the Sentry was killed" : "the gofer was killed"),
              std::string::npos) << output.err;
    EXPECT_TRUE(Eventually([&] {
      return std::all_of(all.begin(), all.end(), IsGone);
    }));
  }
}

TEST_F(RunscTest, KilledCallerTakesTheSandboxAlong) {
  std::set<pid_t> all;
  {
    Process process({"do", "sleep"});
    ASSERT_TRUE(Eventually([&] {
      all = Descendants(process.pid());
      return all.size() >= 2;
    }));
  }
  EXPECT_TRUE(Eventually([&] { return std::all_of(all.begin(), all.end(), IsGone); }));
}

TEST_F(RunscTest, RunOfABundleEndsAsItsProgramAndLeavesNothing) {
  WriteConfig(R"(["exit","3"])");
  const Output output = Container({"run", "--bundle", Bundle(), "one"});
  EXPECT_EQ(output.code(), 3) << output.err;
  EXPECT_TRUE(List().empty());
}

TEST_F(RunscTest, LifeCycle) {
  WriteConfig(R"(["sleep"])");
  const std::string pid_file = directory_ + "/pid";
  const auto create = [&] {
    return Detached("create --bundle " + Bundle() + " --pid-file " + pid_file + " two");
  };
  ASSERT_EQ(create(), 0);
  EXPECT_EQ(StatusOf("two"), "created");
  EXPECT_NE(create(), 0) << "the name is taken";
  EXPECT_EQ(Container({"exec", "two", "exit", "0"}).code(), 125) << "not running yet";
  EXPECT_EQ(Container({"start", "two"}).code(), 0);
  EXPECT_EQ(StatusOf("two"), "running");
  EXPECT_EQ(Container({"start", "two"}).code(), 125);
  EXPECT_EQ(Container({"exec", "two", "exit", "5"}).code(), 5);
  EXPECT_EQ(Container({"exec", "two", "echo", "a b"}).out, "a b\n");
  EXPECT_EQ(Container({"exec", "two", "missing"}).code(), 127);
  EXPECT_EQ(Container({"pause", "two"}).code(), 0);
  EXPECT_EQ(StatusOf("two"), "paused");
  EXPECT_EQ(Container({"resume", "two"}).code(), 0);
  EXPECT_EQ(Container({"ps", "-f", "json", "two"}).out, "[1]\n");
  EXPECT_NE(Container({"events", "--stats", "two"}).out.find("\"type\":\"stats\""),
            std::string::npos);
  EXPECT_NE(Container({"list"}).out.find("two"), std::string::npos);
  EXPECT_EQ(Container({"delete", "two"}).code(), 125) << "still running";
  std::ifstream file(pid_file);
  pid_t pid = 0;
  file >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_FALSE(IsGone(pid));
  EXPECT_EQ(Container({"kill", "two", "KILL"}).code(), 0);
  EXPECT_TRUE(Eventually([&] { return IsGone(pid); }));
  EXPECT_EQ(StatusOf("two"), "stopped");
  EXPECT_EQ(Container({"kill", "two", "KILL"}).code(), 125);
  EXPECT_EQ(Container({"delete", "two"}).code(), 0);
  EXPECT_TRUE(List().empty());
  EXPECT_EQ(Container({"delete", "two"}).code(), 125);
  EXPECT_EQ(Container({"delete", "--force", "two"}).code(), 0);
}

TEST_F(RunscTest, DetachedExecHasAHostProcessThatEndsAsItDoes) {
  WriteConfig(R"(["sleep"])");
  ASSERT_EQ(Detached("run -d --bundle " + Bundle() + " three"), 0);
  const std::string pid_file = directory_ + "/exec-pid";
  ASSERT_EQ(Detached("exec -d --pid-file " + pid_file + " three sleep"), 0);
  std::ifstream file(pid_file);
  pid_t pid = 0;
  file >> pid;
  ASSERT_GT(pid, 0);
  EXPECT_FALSE(IsGone(pid));
  EXPECT_EQ(Container({"kill", "--pid", "2", "three", "TERM"}).code(), 0);
  EXPECT_TRUE(Eventually([&] { return IsGone(pid); }));
}

TEST_F(RunscTest, FailedCreationLeavesNothing) {
  WriteConfig(R"(["missing"])");
  const Output output = Container({"run", "--bundle", Bundle(), "four"});
  EXPECT_EQ(output.code(), 127);
  WriteConfig(R"(["exit", 0])");
  const Output bad = Container({"run", "--bundle", Bundle(), "four"});
  EXPECT_EQ(bad.code(), 125);
  EXPECT_NE(bad.err.find("line 1: process.args[1]: expected a string, found a number"),
            std::string::npos) << bad.err;
  EXPECT_NE(Container({"run", "--bundle", directory_, "four"}).err.find("is no bundle"),
            std::string::npos);
  EXPECT_TRUE(List().empty());
}

TEST_F(RunscTest, HooksRunWithTheStateOnStdin) {
  const std::string seen = directory_ + "/seen";
  WriteConfig(R"(["exit","0"])", R"(,"hooks":{"createRuntime":[{"path":"/bin/sh","args":["sh","-c","cat >)" +
                                     seen + R"("]}],"poststop":[{"path":"/bin/rm","args":["rm",")" +
                                     directory_ + R"(/bundle/config.json"]}]})");
  EXPECT_EQ(Container({"run", "--bundle", Bundle(), "five"}).code(), 0);
  std::ifstream file(seen);
  std::string text;
  std::getline(file, text);
  EXPECT_NE(text.find("\"id\":\"five\""), std::string::npos) << text;
  EXPECT_FALSE(std::filesystem::exists(Bundle() + "/config.json"));
}

TEST_F(RunscTest, FailingHookStopsTheCreation) {
  WriteConfig(R"(["exit","0"])",
              R"(,"hooks":{"prestart":[{"path":"/bin/sh","args":["sh","-c","echo why; exit 3"]}]})");
  const Output output = Container({"run", "--bundle", Bundle(), "six"});
  EXPECT_EQ(output.code(), 125);
  EXPECT_NE(output.err.find("why"), std::string::npos) << output.err;
  EXPECT_TRUE(List().empty());
}

TEST_F(RunscTest, ConsoleSocketGetsTheMaster) {
  WriteConfig(R"(["echo","on the terminal"])", "");
  std::ofstream(Bundle() + "/config.json")
      << R"({"ociVersion":"1.2.0","process":{"terminal":true,"cwd":"/","args":["echo","hi"]},)"
      << R"("root":{"path":"rootfs"}})";
  const std::string path = directory_ + "/console";
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "%s", path.c_str());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  Process run({"--root", Root(), "--ignore-cgroups", "run", "--console-socket", path, "--bundle",
               Bundle(), "seven"});
  UniqueFd connection(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(connection);
  char byte[64];
  iovec piece = {byte, sizeof(byte)};
  alignas(cmsghdr) char control[64];
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ASSERT_GT(recvmsg(connection.get(), &message, 0), 0);
  ASSERT_NE(CMSG_FIRSTHDR(&message), nullptr);
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
  UniqueFd master(fd);
  EXPECT_EQ(run.Finish().code(), 0);
  char text[16] = {};
  EXPECT_EQ(::read(master.get(), text, sizeof(text)), 4);
  EXPECT_STREQ(text, "hi\r\n");
}

TEST_F(RunscTest, FeaturesTellTheLayers) {
  const Output output = RunIt({"features"});
  EXPECT_EQ(output.code(), 0);
  EXPECT_NE(output.out.find("\\\"seccomp filter\\\":true"), std::string::npos) << output.out;
}

}  // namespace
}  // namespace ringwall
