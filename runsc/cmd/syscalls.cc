// runsc syscalls: the table of system calls with what is there, so that a user can look before he tries.
#include <stdio.h>

#include "runsc/boot/boot.h"
#include "runsc/cmd/command.h"
#include "runsc/container/json.h"

namespace ringwall {
namespace {

// As RFC 4180 has it: quotes around a field, doubled within.
std::string CsvField(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

class Syscalls final : public Command {
 public:
  const char* name() const override { return "syscalls"; }
  const char* summary() const override { return "list the system calls and how far they are there"; }
  const char* arguments() const override { return "[flags]"; }
  void AddFlags(FlagSet& flags) override {
    flags.String("format,output,o", &format_, "table|csv|json", "how to print them");
  }
  HostResult<int> Run(Config& config, const std::vector<std::string>& args) override;

 private:
  std::string format_ = "table";
};

HostResult<int> Syscalls::Run(Config&, const std::vector<std::string>&) {
  if (format_ != "table" && format_ != "csv" && format_ != "json") {
    return HostError::Message("--format: \"" + format_ + "\" is not table, csv or json");
  }
  if (format_ == "table") printf("%-5s %-24s %-8s %s\n", "NR", "NAME", "SUPPORT", "NOTE");
  if (format_ == "csv") printf("nr,name,support,note\r\n");
  std::vector<std::string> json;
  for (const auto& [nr, name, support, note] : ListSyscalls()) {
    if (format_ == "table") {
      printf("%-5u %-24s %-8s%s%s\n", nr, name, support, note.empty() ? "" : " ",
             note.c_str());
    } else if (format_ == "csv") {
      printf("%u,%s,%s,%s\r\n", nr, name, support, CsvField(note).c_str());
    } else {
      JsonObject object;
      object.AddNumber("nr", nr);
      object.Add("name", name);
      object.Add("support", support);
      object.Add("note", note);
      json.push_back(object.Text());
    }
  }
  if (format_ == "json") printf("%s\n", JsonList(json).c_str());
  return 0;
}

}  // namespace

std::unique_ptr<Command> NewSyscallsCommand() { return std::make_unique<Syscalls>(); }

}  // namespace ringwall
