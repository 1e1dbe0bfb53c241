// runsc spec.
#include <fcntl.h>
#include <unistd.h>

#include "runsc/cmd/command.h"
#include "runsc/container/json.h"
#include "runsc/spec/spec.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

class SpecCommand final : public Command {
 public:
  const char* name() const override { return "spec"; }
  const char* summary() const override { return "write a config.json to start from"; }
  const char* arguments() const override { return "[flags] [-- PROGRAM [ARGUMENT...]]"; }
  size_t max_args() const override { return SIZE_MAX; }
  void AddFlags(FlagSet& flags) override {
    flags.String("bundle,b", &bundle_, "DIR", "where to write it (default .)");
    flags.String("cwd", &cwd_, "DIR", "directory to start in");
    flags.String("netns", &netns_, "PATH", "network namespace to join");
    flags.Ignored("tpu", false);
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override {
    const std::string path = bundle_ + "/config.json";
    std::string text = ExampleSpec(!config.privileged);
    if (!args.empty()) {
      std::vector<std::string> quoted;
      for (const std::string& arg : args) quoted.push_back(JsonString(arg));
      const std::string before = "\"args\": [\"sh\"]";
      text.replace(text.find(before), before.size(), "\"args\": " + JsonList(quoted));
    }
    if (!cwd_.empty()) {
      const std::string before = "\"cwd\": \"/\"";
      text.replace(text.find(before), before.size(), "\"cwd\": " + JsonString(cwd_));
    }
    if (!netns_.empty()) {
      const std::string joined = "{\"type\": \"network\", \"path\": " + JsonString(netns_) + "}";
      const std::string fresh = "{\"type\": \"network\"}", pid = "{\"type\": \"pid\"}, ";
      if (const size_t at = text.find(fresh); at != std::string::npos) {
        text.replace(at, fresh.size(), joined);
      } else {
        text.insert(text.find(pid) + pid.size(), joined + ", ");
      }
    }
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!fd) return HostError::Last("write", path);
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return HostError::Last("write", path);
    }
    return 0;
  }

 private:
  std::string bundle_ = ".", cwd_, netns_;
};

}  // namespace

std::unique_ptr<Command> NewSpecCommand() { return std::make_unique<SpecCommand>(); }

}  // namespace ringwall
