#include "sentry/loader/elf.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/loader/script.h"
#include "sentry/loader/stack_image.h"

namespace ringwall {
namespace {

Elf64_Ehdr Header() {
  Elf64_Ehdr e = {};
  memcpy(e.e_ident, ELFMAG, SELFMAG);
  e.e_ident[EI_CLASS] = ELFCLASS64;
  e.e_type = ET_DYN;
  e.e_machine = EM_X86_64;
  e.e_phoff = 64;
  e.e_phentsize = 56;
  e.e_phnum = 1;
  return e;
}

int HeaderError(const Elf64_Ehdr& e) {
  return ParseElfHeader(std::as_bytes(std::span(&e, 1))).error_value();
}

Elf64_Phdr Load(uint64_t vaddr, uint64_t offset, uint64_t file_size, uint64_t mem_size) {
  Elf64_Phdr p = {};
  p.p_type = PT_LOAD;
  p.p_flags = PF_R;
  p.p_vaddr = vaddr;
  p.p_offset = offset;
  p.p_filesz = file_size;
  p.p_memsz = mem_size;
  p.p_align = 0x1000;
  return p;
}

Result<ElfImage> Segments(const std::vector<Elf64_Phdr>& table) {
  const ElfHeader header{.table_offset = 64, .table_count = static_cast<uint16_t>(table.size())};
  return ParseElfSegments(header, std::as_bytes(std::span(table)));
}

TEST(ElfTest, OnlyExecutablesOfThisMachineAreTaken) {
  EXPECT_EQ(HeaderError(Header()), 0);
  Elf64_Ehdr e = Header();
  e.e_machine = EM_AARCH64;
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e = Header();
  e.e_type = ET_REL;
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e = Header();
  e.e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e = Header();
  e.e_ident[0] = 'x';
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e = Header();
  e.e_phentsize = 32;
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e = Header();
  e.e_phnum = 0;
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e.e_phnum = 65535;
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  e = Header();
  e.e_phoff = ~uint64_t{0};
  EXPECT_EQ(HeaderError(e), ENOEXEC);
  EXPECT_EQ(ParseElfHeader({}).error_value(), ENOEXEC);
}

TEST(ElfTest, SegmentsAddUpToTheirExtent) {
  Elf64_Phdr stack = {};
  stack.p_type = PT_GNU_STACK;
  stack.p_flags = PF_R | PF_W | PF_X;
  Elf64_Phdr data = Load(0x5e10, 0x3e10, 0x100, 0x2000);
  data.p_align = 0x200000;
  const Result<ElfImage> image = Segments({Load(0, 0, 0x500, 0x500), data, stack});
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->start, 0u);
  EXPECT_EQ(image->end, 0x8000u);
  EXPECT_EQ(image->loads.size(), 2u);
  EXPECT_EQ(image->table_vaddr, 64u);
  EXPECT_EQ(image->alignment, 0x200000u);
  EXPECT_TRUE(image->executable_stack);
  EXPECT_FALSE(image->interpreter.has_value());
}

TEST(ElfTest, ImpossibleSegmentsAreRefused) {
  EXPECT_EQ(Segments({Load(0, 0, 2, 1)}).error_value(), EINVAL);
  EXPECT_EQ(Segments({Load(0x10, 0x11, 1, 1)}).error_value(), EINVAL);
  EXPECT_EQ(Segments({Load(~uint64_t{0} - 5, ~uint64_t{0} - 5, 1, 100)}).error_value(), EINVAL);
  EXPECT_EQ(Segments({Load(0, 0, 1, ~uint64_t{0})}).error_value(), EINVAL);
  EXPECT_EQ(Segments({Load(0, uint64_t{1} << 63, 1, 1)}).error_value(), EINVAL);
  EXPECT_EQ(Segments({Load(0, 0, 0, 0)}).error_value(), EINVAL);
  Elf64_Phdr interp = {};
  interp.p_type = PT_INTERP;
  interp.p_filesz = 1;
  EXPECT_EQ(Segments({Load(0, 0, 1, 1), interp}).error_value(), ENOEXEC);
  interp.p_filesz = 5000;
  EXPECT_EQ(Segments({Load(0, 0, 1, 1), interp}).error_value(), ENOEXEC);
  const ElfHeader header{.table_offset = 64, .table_count = 2};
  EXPECT_EQ(ParseElfSegments(header, {}).error_value(), ENOEXEC);
}

Result<Script> Line(std::string_view text) {
  return ParseScript(std::as_bytes(std::span(text.data(), text.size())));
}

TEST(ScriptTest, TheRestOfTheLineIsOneArgument) {
  EXPECT_EQ(Line("#!/bin/sh\n")->interpreter, "/bin/sh");
  EXPECT_FALSE(Line("#!/bin/sh\n")->argument.has_value());
  EXPECT_EQ(Line("#! \t/bin/sh \t\nx")->interpreter, "/bin/sh");
  const Result<Script> two = Line("#!/usr/bin/env  -S a  b \n");
  EXPECT_EQ(two->interpreter, "/usr/bin/env");
  EXPECT_EQ(*two->argument, "-S a  b");
  EXPECT_EQ(Line("#!/bin/sh")->interpreter, "/bin/sh");  // no newline, but the file ends
}

TEST(ScriptTest, ALineWithoutAnInterpreterIsRefused) {
  EXPECT_EQ(Line("").error_value(), ENOEXEC);
  EXPECT_EQ(Line("#").error_value(), ENOEXEC);
  EXPECT_EQ(Line("#!\n").error_value(), ENOEXEC);
  EXPECT_EQ(Line("#!   \n").error_value(), ENOEXEC);
  EXPECT_EQ(Line("#!" + std::string(400, ' ')).error_value(), ENOEXEC);
}

TEST(ScriptTest, ANameThatDoesNotFitIsRefusedButALongArgumentIsCut) {
  EXPECT_EQ(Line("#!/" + std::string(300, 'a') + "\n").error_value(), ENOEXEC);
  const Result<Script> cut = Line("#!/bin/sh " + std::string(300, 'b') + "\n");
  ASSERT_TRUE(cut.ok());
  EXPECT_EQ(*cut->argument, std::string(255 - 10, 'b'));
}

TEST(StackImageTest, ArgumentsAreLimitedAsOnLinux) {
  const std::vector<std::string> none;
  EXPECT_EQ(CheckArguments("f", {std::string(kMaxArgString - 1, 'a')}, none, 8 << 20).error_value(),
            0);
  EXPECT_EQ(CheckArguments("f", {std::string(kMaxArgString, 'a')}, none, 8 << 20).error_value(),
            E2BIG);
  const std::vector<std::string> many(30, std::string(100'000, 'a'));
  EXPECT_EQ(CheckArguments("f", many, none, 8 << 20).error_value(), E2BIG);
  EXPECT_EQ(CheckArguments("f", many, none, ~uint64_t{0}).error_value(), 0);
  EXPECT_EQ(CheckArguments("f", std::vector<std::string>(16384, ""), none, 0).error_value(), E2BIG);
}

TEST(StackImageTest, TheStackPointerIsAlignedAndStringsAreFound) {
  const std::vector<std::string> argv = {"a", "bb"}, envp = {"X=1"};
  const std::string filename = "/bin/x";
  for (uint64_t offset = 0; offset < 40; offset += 7) {
    const StackImage image = BuildStack({.top = GuestAddr(0x10000),
                                         .random_offset = offset,
                                         .filename = filename,
                                         .argv = argv,
                                         .envp = envp,
                                         .random_bytes = {},
                                         .auxv = {{AT_EXECFN, 0}, {AT_PAGESZ, 4096}}});
    EXPECT_EQ(image.stack_pointer.value() % 16, 0u);
    EXPECT_EQ(image.stack_pointer + image.bytes.size(), GuestAddr(0x10000));
    std::vector<uint64_t> words(7);
    memcpy(words.data(), image.bytes.data(), words.size() * 8);
    const auto text = [&](uint64_t at) {
      return std::string(reinterpret_cast<const char*>(image.bytes.data()) +
                         (at - image.stack_pointer.value()));
    };
    EXPECT_EQ(words[0], 2u);
    EXPECT_EQ(text(words[1]), "a");
    EXPECT_EQ(text(words[2]), "bb");
    EXPECT_EQ(words[3], 0u);
    EXPECT_EQ(text(words[4]), "X=1");
    EXPECT_EQ(words[5], 0u);
    EXPECT_EQ(text(image.auxv[1]), filename);
    EXPECT_EQ(image.arg_end, image.env_start);
    EXPECT_EQ(image.env_end - image.env_start, 4u);
  }
}

}  // namespace
}  // namespace ringwall
