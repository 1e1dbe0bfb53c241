// How a core file is called: kernel.core_pattern with its per cent signs (fs/coredump.c:format_corename()).
#include <algorithm>

#include "sentry/kernel/core_dump.h"

namespace ringwall {

namespace {

// Nobody's name leads out of the directory: no slashes, neither "." nor "..", and not nothing.
std::string Escaped(std::string s) {
  if (s.empty()) return "!";
  if (s == "." || s == "..") s[0] = '!';
  std::replace(s.begin(), s.end(), '/', '!');
  return s;
}

std::string Executable(const CoreNameFacts& f, bool name_only) {
  if (!f.executable) return Escaped(f.comm) + " (path unknown)";
  const size_t slash = f.executable->rfind('/');
  if (name_only && slash != std::string::npos) return Escaped(f.executable->substr(slash + 1));
  return Escaped(*f.executable);
}

// Unknown letters are dropped.
std::string Expand(char letter, const CoreNameFacts& f) {
  switch (letter) {
    case '%': return "%";
    case 'p': return std::to_string(f.pid);
    case 'P': return std::to_string(f.first_pid);
    case 'i': return std::to_string(f.tid);
    case 'I': return std::to_string(f.first_tid);
    case 'u': return std::to_string(f.uid);
    case 'g': return std::to_string(f.gid);
    case 'd': return std::to_string(f.dumpable);
    case 's': return std::to_string(f.signo);
    case 't': return std::to_string(f.time);
    case 'h': return Escaped(f.hostname);
    case 'e': return Escaped(f.comm);
    case 'f': return Executable(f, true);
    case 'E': return Executable(f, false);
    case 'c': return std::to_string(f.limit);
    case 'C': return std::to_string(f.cpu);
    default: return {};
  }
}

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

CoreSettings& CoreSettings::Get() {
  static auto& settings = *new CoreSettings;
  return settings;
}

void CoreSettings::set_pattern(std::string_view pattern) {
  pattern_.With([&](std::string& s) { s = std::string(pattern.substr(0, kMaxPattern)); });
}

std::optional<CoreName> FormatCoreName(std::string_view pattern, bool uses_pid, const CoreNameFacts& facts) {
  CoreName name;
  name.pipe = pattern.starts_with('|');
  if (name.pipe) pattern.remove_prefix(1);
  bool named_pid = false;
  // Words are told apart before they are filled in: what a process is called makes no new ones.
  std::string word;
  bool in_word = false;
  for (size_t i = 0; i < pattern.size(); i++) {
    if (name.pipe && IsSpace(pattern[i])) {
      if (in_word) name.argv.push_back(std::exchange(word, {}));
      in_word = false;
      continue;
    }
    in_word = true;
    if (pattern[i] != '%') {
      word += pattern[i];
    } else if (++i < pattern.size()) {
      named_pid |= pattern[i] == 'p';
      word += Expand(pattern[i], facts);
    }
  }
  if (name.pipe) {
    if (in_word) name.argv.push_back(word);
    if (name.argv.empty() || name.argv.front().empty()) return std::nullopt;
    return name;
  }
  if (!named_pid && uses_pid) word += "." + std::to_string(facts.pid);
  name.file = word;
  return name;
}

}  // namespace ringwall
