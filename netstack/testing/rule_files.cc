#include "netstack/testing/rule_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "sentry/base/check.h"

namespace ringwall::net::testing {
namespace {

// "RFC 9293 3.10.7.1" and what holds, as one word.
std::string TestName(const ScriptedRule& rule) {
  std::string s;
  for (char c : rule.section) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      s += c;
    } else if (!s.empty() && s.back() != '_' && s != "RFC") {
      s += '_';
    }
  }
  return s + "_" + rule.name;
}

void ReadFile(const std::string& path, const AddRule& add) {
  std::ifstream in(path);
  std::string line, suite;
  ScriptedRule rule;
  int number = 0, first = 0;
  const auto finish = [&] {
    if (rule.name.empty()) return;
    RW_CHECK(!suite.empty());
    add(suite, TestName(rule), path, first, rule);
    rule = {};
  };
  while (std::getline(in, line)) {
    number++;
    if (line.empty() || line[0] == '#') continue;
    if (line[0] == ' ') {
      rule.script += line + "\n";
      continue;
    }
    finish();
    if (line.rfind("suite ", 0) == 0) {
      suite = line.substr(6);
      continue;
    }
    const size_t close = line.find("] ");
    RW_CHECK(line[0] == '[' && close != std::string::npos);
    rule.section = line.substr(1, close - 1);
    rule.name = line.substr(close + 2);
    first = number;
  }
  finish();
}

}  // namespace

void ReadRules(const std::string& folder, const AddRule& add) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".rules") files.push_back(entry.path().string());
  }
  RW_CHECK(!files.empty());
  std::sort(files.begin(), files.end());
  for (const std::string& f : files) ReadFile(f, add);
}

void ForEachStep(const ScriptedRule& rule,
                 const std::function<void(std::vector<std::string> words)>& step) {
  SCOPED_TRACE(rule.section + ": " + rule.name);
  std::string steps = rule.script;
  std::replace(steps.begin(), steps.end(), ';', '\n');
  std::stringstream lines(steps);
  std::string line;
  int number = 0;
  while (std::getline(lines, line)) {
    number++;
    if (const size_t hash = line.find('#'); hash != std::string::npos) line.resize(hash);
    std::stringstream in(line);
    std::vector<std::string> words;
    for (std::string w; in >> w;) words.push_back(w);
    if (words.empty()) continue;
    SCOPED_TRACE("step " + std::to_string(number) + ": " + line);
    step(std::move(words));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace ringwall::net::testing
