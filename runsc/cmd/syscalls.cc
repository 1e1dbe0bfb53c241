// runsc syscalls: the table of system calls with what is there, so that a user can look before he tries.
#include "syscalls/table.h"

#include <stdio.h>
#include <string.h>

#include "runsc/cmd/command.h"
#include "runsc/container/json.h"

namespace ringwall {
namespace {

const char* SupportName(Support support) {
  switch (support) {
    case Support::kFull: return "full";
    case Support::kPartial: return "partial";
    case Support::kNone: return "none";
  }
  return "";
}

std::string NoteOf(const SyscallRow& row) {
  std::string note = row.note;
  if (row.support != Support::kNone) return note;
  return std::string("answers ") + strerrorname_np(row.error) + (note.empty() ? "" : "; " + note);
}

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
  for (const SyscallRow& row : SyscallsX8664().rows()) {
    const std::string note = NoteOf(row);
    const char* support = SupportName(row.support);
    if (format_ == "table") {
      printf("%-5u %-24s %-8s%s%s\n", row.nr, row.name, support, note.empty() ? "" : " ",
             note.c_str());
    } else if (format_ == "csv") {
      printf("%u,%s,%s,%s\r\n", row.nr, row.name, support, CsvField(note).c_str());
    } else {
      JsonObject object;
      object.AddNumber("nr", row.nr);
      object.Add("name", row.name);
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
