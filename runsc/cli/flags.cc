#include "runsc/cli/flags.h"

#include <errno.h>
#include <stdlib.h>

#include <algorithm>
#include <optional>

#include "sentry/base/result.h"

namespace ringwall {
namespace {

std::vector<std::string> SplitNames(std::string_view names) {
  std::vector<std::string> out;
  while (true) {
    const size_t comma = names.find(',');
    out.emplace_back(names.substr(0, comma));
    if (comma == std::string_view::npos) return out;
    names.remove_prefix(comma + 1);
  }
}

bool ParseBool(const std::string& text, bool* out) {
  for (const char* yes : {"true", "1", "t", "T", "TRUE", "True", "yes"}) {
    if (text == yes) return *out = true, true;
  }
  for (const char* no : {"false", "0", "f", "F", "FALSE", "False", "no"}) {
    if (text == no) return *out = false, true;
  }
  return false;
}

}  // namespace

FlagSet::Flag& FlagSet::Add(std::string_view names, std::string_view value,
                            std::string_view help) {
  Flag& flag = flags_.emplace_back();
  flag.names = SplitNames(names);
  flag.value = value;
  flag.help = help;
  return flag;
}

void FlagSet::Bool(std::string_view names, bool* target, std::string_view help) {
  Add(names, "", help).target = target;
}

void FlagSet::String(std::string_view names, std::string* target, std::string_view value,
                     std::string_view help) {
  Flag& flag = Add(names, value, help);
  flag.target = target;
  flag.takes_value = true;
}

void FlagSet::List(std::string_view names, std::vector<std::string>* target,
                   std::string_view value, std::string_view help) {
  Flag& flag = Add(names, value, help);
  flag.target = target;
  flag.takes_value = true;
}

void FlagSet::Int(std::string_view names, int64_t* target, std::string_view value,
                  std::string_view help) {
  Flag& flag = Add(names, value, help);
  flag.target = target;
  flag.takes_value = true;
}

void FlagSet::Ignored(std::string_view names, bool takes_value) {
  Add(names, "", "").takes_value = takes_value;
}

void FlagSet::IgnoredPrefix(std::string_view prefix) { ignored_prefixes_.emplace_back(prefix); }

bool FlagSet::HasPrefix(std::string_view name) const {
  return std::any_of(ignored_prefixes_.begin(), ignored_prefixes_.end(),
                     [&](const std::string& prefix) { return name.starts_with(prefix); });
}

const FlagSet::Flag* FlagSet::Find(std::string_view name) const {
  for (const Flag& flag : flags_) {
    if (std::find(flag.names.begin(), flag.names.end(), name) != flag.names.end()) return &flag;
  }
  return nullptr;
}

bool FlagSet::TakesValue(std::string_view name) const {
  const Flag* flag = Find(name);
  return flag != nullptr && flag->takes_value;
}

std::vector<std::string>& FlagSet::IgnoredFlagsSeen() {
  static std::vector<std::string> seen;
  return seen;
}

HostResult<void> FlagSet::Set(std::string_view name, const std::string* value) const {
  const Flag* flag = Find(name);
  if (flag == nullptr && HasPrefix(name)) {
    IgnoredFlagsSeen().emplace_back(name);
    return {};
  }
  RW_CHECK(flag != nullptr);
  const std::string dashed = "--" + std::string(name);
  if (bool* const* target = std::get_if<bool*>(&flag->target)) {
    if (value == nullptr) {
      **target = true;
    } else if (!ParseBool(*value, *target)) {
      return HostError::Message(dashed + ": \"" + *value + "\" is not true or false");
    }
  } else if (std::string* const* target = std::get_if<std::string*>(&flag->target)) {
    **target = *value;
  } else if (auto* const* target = std::get_if<std::vector<std::string>*>(&flag->target)) {
    (*target)->push_back(*value);
  } else if (int64_t* const* target = std::get_if<int64_t*>(&flag->target)) {
    char* end = nullptr;
    errno = 0;
    const int64_t number = strtoll(value->c_str(), &end, 0);
    if (value->empty() || *end != '\0' || errno != 0) {
      return HostError::Message(dashed + ": \"" + *value + "\" is not a whole number");
    }
    **target = number;
  } else {
    IgnoredFlagsSeen().emplace_back(name);
  }
  return {};
}

std::string FlagSet::Help() const {
  std::string out;
  for (const Flag& flag : flags_) {
    if (flag.help.empty()) continue;
    std::string left = "  --" + flag.names[0];
    for (size_t i = 1; i < flag.names.size(); i++) {
      left += ", -" + flag.names[i];
    }
    if (flag.takes_value) left += " " + flag.value;
    if (left.size() < 30) {
      left.resize(30, ' ');
    } else {
      left += "\n" + std::string(30, ' ');
    }
    out += left + flag.help + "\n";
  }
  return out;
}

std::vector<std::string> FlagSet::Names() const {
  std::vector<std::string> out;
  for (const Flag& flag : flags_) {
    if (!flag.help.empty()) out.push_back("--" + flag.names[0]);
  }
  return out;
}

std::string Nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = word.size() / 3 + 2;  // farther than this is no typing slip
  for (const std::string& candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1);
    for (size_t j = 0; j < row.size(); j++) row[j] = j;
    for (size_t i = 1; i <= word.size(); i++) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j < row.size(); j++) {
        const size_t substitute = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

HostResult<std::vector<std::string>> ParseFlags(const std::vector<const FlagSet*>& sets,
                                                const std::vector<std::string>& args,
                                                bool stop_at_first) {
  std::vector<std::string> rest;
  for (size_t i = 0; i < args.size(); i++) {
    const std::string& arg = args[i];
    if (arg.size() < 2 || arg[0] != '-') {
      if (stop_at_first) {
        rest.insert(rest.end(), args.begin() + static_cast<ptrdiff_t>(i), args.end());
        return rest;
      }
      rest.push_back(arg);
      continue;
    }
    if (arg == "--") {
      rest.insert(rest.end(), args.begin() + static_cast<ptrdiff_t>(i) + 1, args.end());
      return rest;
    }
    std::string name = arg.substr(arg[1] == '-' ? 2 : 1);
    std::optional<std::string> value;
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    const auto set = std::find_if(sets.begin(), sets.end(),
                                  [&](const FlagSet* s) { return s->Has(name); });
    if (set == sets.end()) {
      std::vector<std::string> known;
      for (const FlagSet* s : sets) {
        for (const std::string& n : s->Names()) known.push_back(n);
      }
      std::string message = "unknown flag " + arg;
      const std::string nearest = Nearest("--" + name, known);
      if (!nearest.empty()) message += "; did you mean " + nearest + "?";
      return HostError::Message(message);
    }
    if ((*set)->TakesValue(name) && !value) {
      if (++i == args.size()) return HostError::Message("flag " + arg + " needs a value");
      value = args[i];
    }
    TRY((*set)->Set(name, value ? &*value : nullptr));
  }
  return rest;
}

}  // namespace ringwall
