// Command-line flags as gVisor's and runc's users write them: one dash or two, `-name value` or
// `-name=value`, before or after the command's name. A FlagSet is a table of names that point at
// variables; it holds no values of its own.
#ifndef RINGWALL_RUNSC_CLI_FLAGS_H_
#define RINGWALL_RUNSC_CLI_FLAGS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sentry/base/host_error.h"

namespace ringwall {

class FlagSet {
 public:
  // `names` is "long" or "long,short"; `value` names the value in the help ("PATH"). An empty help
  // text hides the flag: accepted so that callers of other runtimes need no change.
  void Bool(std::string_view names, bool* target, std::string_view help);
  void String(std::string_view names, std::string* target, std::string_view value,
              std::string_view help);
  void List(std::string_view names, std::vector<std::string>* target, std::string_view value,
            std::string_view help);
  void Int(std::string_view names, int64_t* target, std::string_view value, std::string_view help);
  // Taken and without effect; `takes_value` as the other runtime has it.
  void Ignored(std::string_view names, bool takes_value);
  // The same for all names that begin so and are not here, with a value only behind "=".
  void IgnoredPrefix(std::string_view prefix);

  // Whether `name` (without dashes) is here, and whether it needs a value of its own.
  bool Has(std::string_view name) const { return Find(name) != nullptr || HasPrefix(name); }
  bool TakesValue(std::string_view name) const;

  // Assigns one flag. `value` is null when none was given; only for flags that take none.
  HostResult<void> Set(std::string_view name, const std::string* value) const;

  // Names of ignored flags that were given, for a warning.
  static std::vector<std::string>& IgnoredFlagsSeen();

  std::string Help() const;
  // All long names with dashes, for completions.
  std::vector<std::string> Names() const;

 private:
  struct Flag {
    std::vector<std::string> names;
    std::string value, help;
    std::variant<std::monostate, bool*, std::string*, std::vector<std::string>*, int64_t*> target;
    bool takes_value = false;
  };
  Flag& Add(std::string_view names, std::string_view value, std::string_view help);
  const Flag* Find(std::string_view name) const;
  bool HasPrefix(std::string_view name) const;

  std::vector<Flag> flags_;
  std::vector<std::string> ignored_prefixes_;
};

// Takes the flags of `sets` out of args and returns the rest. Stops at "--" (dropped) and, with
// stop_at_first, at the first argument that is no flag. An unknown flag is an error that names the
// nearest known one.
HostResult<std::vector<std::string>> ParseFlags(const std::vector<const FlagSet*>& sets,
                                                const std::vector<std::string>& args,
                                                bool stop_at_first);

// The word closest to `word` by edit distance, for "did you mean"; empty when none is close.
std::string Nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CLI_FLAGS_H_
