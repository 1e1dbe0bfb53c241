// Feeds arbitrary patterns, and names of processes, to the naming of core files.
#include <algorithm>

#include "sentry/base/check.h"
#include "sentry/kernel/core_dump.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ringwall;
  // The pattern ends with a NUL; then come the names, each up to the next one.
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto next = [&text] {
    const std::string_view part = text.substr(0, text.find('\0'));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    return std::string(part);
  };
  const std::string pattern = next();
  CoreNameFacts facts;
  facts.comm = next();
  facts.hostname = next();
  if (!text.empty()) facts.executable = next();
  const std::optional<CoreName> name = FormatCoreName(pattern, size % 2 == 0, facts);
  if (!name) {
    RW_CHECK(pattern.starts_with('|'));
    return 0;
  }
  RW_CHECK(name->pipe == pattern.starts_with('|'));
  if (name->pipe) {
    RW_CHECK(!name->argv.empty() && !name->argv.front().empty());
    return 0;
  }
  // Only the pattern itself leads to other directories.
  const auto slashes = [](std::string_view s) { return std::count(s.begin(), s.end(), '/'); };
  RW_CHECK(slashes(name->file) <= slashes(pattern));
  return 0;
}
