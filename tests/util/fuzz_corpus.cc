// Runs a libFuzzer target without libFuzzer, as an ordinary unit test: on each of its seeds, and on
// mutations of them that are the same each time.
#include <dirent.h>
#include <gtest/gtest.h>
#include <stdint.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr int kMutations = 1500;
constexpr size_t kMostBytes = 4096;

// Copies what runs, so that a sanitizer sees a read past its end.
void RunOnce(const Bytes& input) {
  const Bytes exact(input);
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

Bytes Mutated(const std::vector<Bytes>& seeds, std::mt19937& random) {
  const auto below = [&](size_t n) { return random() % std::max<size_t>(n, 1); };
  Bytes bytes = seeds[below(seeds.size())];
  for (size_t i = below(8) + 1; i > 0; i--) {
    const size_t at = below(bytes.size() + 1);
    switch (below(6)) {
      case 0:
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), static_cast<uint8_t>(random()));
        break;
      case 1:
        bytes.resize(at);
        break;
      case 2: {
        const Bytes& other = seeds[below(seeds.size())];
        const size_t from = below(other.size()), size = below(other.size() - from);
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), other.begin() + static_cast<ptrdiff_t>(from),
                     other.begin() + static_cast<ptrdiff_t>(from + size));
        break;
      }
      case 3:
        if (at < bytes.size()) bytes[at] ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 4: {
        constexpr uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0xff};
        for (size_t n = at; n < std::min(at + 4, bytes.size()); n++) bytes[n] = kEdges[below(5)];
        break;
      }
      default:
        if (at < bytes.size()) bytes[at] = static_cast<uint8_t>(random());
        break;
    }
  }
  bytes.resize(std::min(bytes.size(), kMostBytes));
  return bytes;
}

std::vector<Bytes> Seeds() {
  std::vector<std::string> names;
  if (DIR* const dir = opendir(RINGWALL_SEEDS)) {
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    closedir(dir);
  }
  std::sort(names.begin(), names.end());
  std::vector<Bytes> seeds;
  for (const std::string& name : names) {
    std::ifstream file(std::string(RINGWALL_SEEDS) + "/" + name, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

TEST(FuzzCorpusTest, SeedsRun) {
  for (const Bytes& seed : Seeds()) RunOnce(seed);
  RunOnce({});
}

TEST(FuzzCorpusTest, MutationsRun) {
  std::vector<Bytes> seeds = Seeds();
  seeds.push_back(Bytes(64, 0));
  std::mt19937 random(1);
  for (int i = 0; i < kMutations; i++) {
    const Bytes input = Mutated(seeds, random);
    RunOnce(input);
    // Long chains of changes lead farther than single ones.
    if (i % 3 == 0 && !input.empty()) seeds[random() % seeds.size()] = input;
  }
}

}  // namespace
