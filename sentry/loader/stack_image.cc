#include "sentry/loader/stack_image.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "sentry/base/check.h"

namespace ringwall {

namespace {

constexpr uint64_t kArgMax = 128 << 10;               // ARG_MAX
constexpr uint64_t kStackDefault = 8 << 20;           // _STK_LIM
constexpr char kPlatform[] = "x86_64";

uint64_t BytesOf(const std::vector<std::string>& strings) {
  uint64_t n = 0;
  for (const std::string& s : strings) n += s.size() + 1;
  return n;
}

// Fills the image from its end down, as a stack grows.
class Writer {
 public:
  Writer(std::vector<std::byte>& bytes, GuestAddr top)
      : bytes_(bytes), at_(bytes.size()), top_(top) {}
  GuestAddr address() const { return top_ - (bytes_.size() - at_); }
  void Skip(uint64_t n) {
    RW_CHECK(n <= at_);
    at_ -= n;
  }
  void Align(uint64_t alignment) { Skip(address().value() & (alignment - 1)); }
  GuestAddr Push(const void* data, size_t n) {
    Skip(n);
    memcpy(bytes_.data() + at_, data, n);
    return address();
  }
  GuestAddr PushString(const std::string& s) { return Push(s.c_str(), s.size() + 1); }
  size_t offset() const { return at_; }

 private:
  std::vector<std::byte>& bytes_;
  size_t at_;
  const GuestAddr top_;
};

}  // namespace

uint64_t ArgumentLimit(uint64_t stack_limit) {
  const uint64_t limit = std::min(kStackDefault / 4 * 3, stack_limit / 4);
  return std::max(limit, kArgMax);
}

// bprm_stack_limits() and copy_strings().
Result<void> CheckArguments(const std::string& filename, const std::vector<std::string>& argv,
                            const std::vector<std::string>& envp, uint64_t stack_limit) {
  const uint64_t limit = ArgumentLimit(stack_limit);
  const uint64_t pointers =
      (std::max<uint64_t>(argv.size(), 1) + envp.size()) * sizeof(uint64_t);
  for (const std::vector<std::string>* strings : {&argv, &envp}) {
    for (const std::string& s : *strings) {
      if (s.size() + 1 > kMaxArgString) return Errno(E2BIG);
    }
  }
  if (limit <= pointers) return Errno(E2BIG);
  const uint64_t bytes = filename.size() + 1 + BytesOf(argv) + BytesOf(envp);
  if (bytes > limit - pointers) return Errno(E2BIG);
  return {};
}

uint64_t StackImageBound(const StackArgs& args) {
  const uint64_t strings = args.filename.size() + 1 + BytesOf(args.argv) + BytesOf(args.envp);
  const uint64_t words = args.argv.size() + args.envp.size() + 3 + 2 * (args.auxv.size() + 1);
  // The pointer at the very top, alignments, the platform's name and AT_RANDOM's bytes.
  return strings + words * sizeof(uint64_t) + args.random_offset + 128;
}

StackImage BuildStack(const StackArgs& args) {
  StackImage image;
  std::vector<std::byte> bytes(StackImageBound(args));
  Writer w(bytes, args.top);
  w.Skip(sizeof(uint64_t));
  const GuestAddr filename = w.PushString(args.filename);
  image.env_end = w.address();
  std::vector<uint64_t> argv, envp;
  argv.reserve(args.argv.size());
  envp.reserve(args.envp.size());
  for (auto s = args.envp.rbegin(); s != args.envp.rend(); ++s) {
    envp.push_back(w.PushString(*s).value());
  }
  image.env_start = image.arg_end = w.address();
  for (auto s = args.argv.rbegin(); s != args.argv.rend(); ++s) {
    argv.push_back(w.PushString(*s).value());
  }
  image.arg_start = w.address();
  w.Skip(args.random_offset);
  w.Align(16);
  const GuestAddr platform = w.Push(kPlatform, sizeof(kPlatform));
  const GuestAddr random = w.Push(args.random_bytes.data(), args.random_bytes.size());

  for (const AuxEntry& entry : args.auxv) {
    uint64_t value = entry.value;
    if (entry.type == AT_EXECFN) value = filename.value();
    if (entry.type == AT_PLATFORM) value = platform.value();
    if (entry.type == AT_RANDOM) value = random.value();
    image.auxv.push_back(entry.type);
    image.auxv.push_back(value);
  }
  image.auxv.push_back(AT_NULL);
  image.auxv.push_back(0);

  std::vector<uint64_t> words;
  words.reserve(argv.size() + envp.size() + 3 + image.auxv.size());
  words.push_back(argv.size());
  words.insert(words.end(), argv.rbegin(), argv.rend());
  words.push_back(0);
  words.insert(words.end(), envp.rbegin(), envp.rend());
  words.push_back(0);
  words.insert(words.end(), image.auxv.begin(), image.auxv.end());
  // The stack pointer is a multiple of 16 at the program's entry.
  w.Align(16);
  if (words.size() % 2 != 0) w.Skip(sizeof(uint64_t));
  image.stack_pointer = w.Push(words.data(), words.size() * sizeof(uint64_t));
  image.bytes.assign(bytes.begin() + static_cast<ptrdiff_t>(w.offset()), bytes.end());
  return image;
}

}  // namespace ringwall
