// Packet tests as data: files of rules, one a test. A file: "suite NAME", then for each rule
// "[section] name" and indented lines of steps, which ";" parts; "#" begins a comment.
#ifndef RINGWALL_NETSTACK_TESTING_RULE_FILES_H_
#define RINGWALL_NETSTACK_TESTING_RULE_FILES_H_

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace ringwall::net::testing {

struct ScriptedRule {
  std::string section;  // "RFC 9293 3.10.7.1"
  std::string name;     // what holds
  std::string script;
};

// Calls `add(suite, test, file, line, rule)` for every rule in the *.rules files of the folder.
using AddRule = std::function<void(const std::string& suite, const std::string& test,
                                   const std::string& file, int line, const ScriptedRule& rule)>;
void ReadRules(const std::string& folder, const AddRule& add);

// Calls `step(words)` for every step; each failure says which step it was.
void ForEachStep(const ScriptedRule& rule,
                 const std::function<void(std::vector<std::string> words)>& step);

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_RULE_FILES_H_
