// runsc install and runsc uninstall: the runtime's entry in Docker's daemon.json.
#include <errno.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runsc/cmd/command.h"
#include "runsc/container/files.h"
#include "runsc/spec/spec.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

// A file that is not there is an empty object.
HostResult<Struct> ReadDaemonJson(const std::string& path) {
  Struct out;
  HostResult<std::string> text = ReadFileText(path);
  if (!text.ok()) {
    if (text.error().error() == ENOENT) return out;
    return text.error();
  }
  if (text->find_first_not_of(" \t\r\n") == std::string::npos) return out;
  const auto status = google::protobuf::util::JsonStringToMessage(*text, &out);
  if (!status.ok()) {
    return HostError::Message(path + " is not a JSON object: " +
                              std::string(status.message().data(), status.message().size()));
  }
  return out;
}

HostResult<void> WriteDaemonJson(const std::string& path, const Struct& json) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(json, &text, options).ok()) {
    return HostError::Message("cannot write " + path + " as JSON");
  }
  const size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash != 0) TRY(MakeDirectories(path.substr(0, slash), 0755));
  return WriteFileAtomically(path, text);
}

class Install final : public Command {
 public:
  explicit Install(bool install) : install_(install) {}
  const char* name() const override { return install_ ? "install" : "uninstall"; }
  const char* summary() const override {
    return install_ ? "make Docker know this runtime" : "make Docker forget this runtime";
  }
  const char* arguments() const override {
    return install_ ? "[flags] [-- RUNTIME-FLAG...]" : "[flags]";
  }
  const char* details() const override {
    return install_ ? "Writes Docker's daemon.json; Docker reads it when it starts. What follows --\n"
                      "is passed to every container, for example --platform=ptrace.\n\n"
                    : "";
  }
  size_t max_args() const override { return install_ ? SIZE_MAX : 0; }
  void AddFlags(FlagSet& flags) override {
    flags.String("config_file,config-file", &file_, "FILE",
                 "Docker's configuration (default /etc/docker/daemon.json)");
    flags.String("runtime", &runtime_, "NAME", "the runtime's name in Docker (default runsc)");
    if (!install_) return;
    flags.Bool("clobber", &clobber_, "replace an entry of that name (default true)");
    flags.String("cgroupdriver", &cgroup_driver_, "NAME", "set Docker's cgroup driver as well");
    flags.Ignored("experimental", false);
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  HostResult<void> Add(const std::vector<std::string>& args, Struct& json);

  const bool install_;
  std::string file_ = "/etc/docker/daemon.json", runtime_ = "runsc", cgroup_driver_;
  bool clobber_ = true;
};

HostResult<void> Install::Add(const std::vector<std::string>& args, Struct& json) {
  char self[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
  if (length <= 0) return HostError::Last("find this program's file");
  Value& runtimes = (*json.mutable_fields())["runtimes"];
  auto& entries = *runtimes.mutable_struct_value()->mutable_fields();
  if (!clobber_ && entries.contains(runtime_)) {
    return HostError::Message(file_ + " has a runtime " + runtime_ + " already");
  }
  Value entry;
  auto& fields = *entry.mutable_struct_value()->mutable_fields();
  fields["path"].set_string_value(std::string(self, static_cast<size_t>(length)));
  for (const std::string& arg : args) {
    fields["runtimeArgs"].mutable_list_value()->add_values()->set_string_value(arg);
  }
  entries[runtime_] = entry;
  if (!cgroup_driver_.empty()) {
    (*json.mutable_fields())["exec-opts"].mutable_list_value()->add_values()->set_string_value(
        "native.cgroupdriver=" + cgroup_driver_);
  }
  return {};
}

HostResult<int> Install::Run(Config&, const std::vector<std::string>& args) {
  Struct json = TRY(ReadDaemonJson(file_));
  if (install_) {
    TRY(Add(args, json));
  } else {
    const auto runtimes = json.mutable_fields()->find("runtimes");
    if (runtimes == json.mutable_fields()->end() ||
        runtimes->second.mutable_struct_value()->mutable_fields()->erase(runtime_) == 0) {
      return HostError::Message(file_ + " has no runtime " + runtime_);
    }
  }
  TRY(WriteDaemonJson(file_, json));
  printf("%s: runtime %s %s; restart Docker to have it read that\n", file_.c_str(),
         runtime_.c_str(), install_ ? "added" : "removed");
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewInstallCommand() { return std::make_unique<Install>(true); }
std::unique_ptr<Command> NewUninstallCommand() { return std::make_unique<Install>(false); }

}  // namespace ringwall
