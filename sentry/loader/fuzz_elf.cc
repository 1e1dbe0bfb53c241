// Feeds arbitrary bytes to what execve reads of a file: the `#!` line, the ELF and program headers.
#include <cstddef>
#include <cstdint>
#include <span>

#include "sentry/base/check.h"
#include "sentry/base/guest_addr.h"
#include "platform/platform.h"
#include "sentry/loader/elf.h"
#include "sentry/loader/script.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ringwall;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  const Result<Script> script = ParseScript(bytes);
  if (script.ok()) {
    RW_CHECK(script->interpreter.size() < kExecHeadSize);
    RW_CHECK(script->interpreter.find('\0') == std::string::npos);
  }
  const Result<ElfHeader> header = ParseElfHeader(bytes);
  if (!header.ok()) return 0;
  if (header->table_offset > size || header->table_size() > size - header->table_offset) return 0;
  const Result<ElfImage> image =
      ParseElfSegments(*header, bytes.subspan(header->table_offset, header->table_size()));
  if (!image.ok()) return 0;
  RW_CHECK(!image->loads.empty() && image->start < image->end);
  RW_CHECK(image->end <= kStubStart + kPageSize);
  for (const ElfSegment& s : image->loads) {
    RW_CHECK(s.file_size <= s.mem_size && s.vaddr >= image->start);
    RW_CHECK(s.vaddr + s.mem_size <= image->end);
  }
  return 0;
}
