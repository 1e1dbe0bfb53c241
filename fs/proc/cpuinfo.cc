// /proc/cpuinfo from CPUID, which guests execute natively: both say the same. Bits that Linux derives
// (mitigations, bugs, "constant_tsc" and the like from models) are left out where CPUID does not tell.
#include <cpuid.h>

#include <cstring>

#include "fs/proc/internal.h"

namespace ringwall::proc {

namespace {

enum Register : uint8_t { kEax, kEbx, kEcx, kEdx };

struct Flag {
  uint32_t leaf;
  uint32_t subleaf;
  Register reg;
  uint8_t bit;
  const char* name;
};

// In Linux's order: word by word of its capability table (arch/x86/include/asm/cpufeatures.h).
constexpr Flag kFlags[] = {
    {1, 0, kEdx, 0, "fpu"}, {1, 0, kEdx, 1, "vme"}, {1, 0, kEdx, 2, "de"}, {1, 0, kEdx, 3, "pse"},
    {1, 0, kEdx, 4, "tsc"}, {1, 0, kEdx, 5, "msr"}, {1, 0, kEdx, 6, "pae"}, {1, 0, kEdx, 7, "mce"},
    {1, 0, kEdx, 8, "cx8"}, {1, 0, kEdx, 9, "apic"}, {1, 0, kEdx, 11, "sep"},
    {1, 0, kEdx, 12, "mtrr"}, {1, 0, kEdx, 13, "pge"}, {1, 0, kEdx, 14, "mca"},
    {1, 0, kEdx, 15, "cmov"}, {1, 0, kEdx, 16, "pat"}, {1, 0, kEdx, 17, "pse36"},
    {1, 0, kEdx, 18, "pn"}, {1, 0, kEdx, 19, "clflush"}, {1, 0, kEdx, 21, "dts"},
    {1, 0, kEdx, 22, "acpi"}, {1, 0, kEdx, 23, "mmx"}, {1, 0, kEdx, 24, "fxsr"},
    {1, 0, kEdx, 25, "sse"}, {1, 0, kEdx, 26, "sse2"}, {1, 0, kEdx, 27, "ss"},
    {1, 0, kEdx, 28, "ht"}, {1, 0, kEdx, 29, "tm"}, {1, 0, kEdx, 31, "pbe"},
    {0x80000001, 0, kEdx, 11, "syscall"}, {0x80000001, 0, kEdx, 20, "nx"},
    {0x80000001, 0, kEdx, 22, "mmxext"}, {0x80000001, 0, kEdx, 25, "fxsr_opt"},
    {0x80000001, 0, kEdx, 26, "pdpe1gb"}, {0x80000001, 0, kEdx, 27, "rdtscp"},
    {0x80000001, 0, kEdx, 29, "lm"}, {0x80000001, 0, kEdx, 30, "3dnowext"},
    {0x80000001, 0, kEdx, 31, "3dnow"},
    {0x80000007, 0, kEdx, 8, "constant_tsc"}, {0x80000007, 0, kEdx, 8, "nonstop_tsc"},
    {1, 0, kEcx, 0, "pni"}, {1, 0, kEcx, 1, "pclmulqdq"}, {1, 0, kEcx, 2, "dtes64"},
    {1, 0, kEcx, 3, "monitor"}, {1, 0, kEcx, 4, "ds_cpl"}, {1, 0, kEcx, 5, "vmx"},
    {1, 0, kEcx, 6, "smx"}, {1, 0, kEcx, 7, "est"}, {1, 0, kEcx, 8, "tm2"},
    {1, 0, kEcx, 9, "ssse3"}, {1, 0, kEcx, 10, "cid"}, {1, 0, kEcx, 11, "sdbg"},
    {1, 0, kEcx, 12, "fma"}, {1, 0, kEcx, 13, "cx16"}, {1, 0, kEcx, 14, "xtpr"},
    {1, 0, kEcx, 15, "pdcm"}, {1, 0, kEcx, 17, "pcid"}, {1, 0, kEcx, 18, "dca"},
    {1, 0, kEcx, 19, "sse4_1"}, {1, 0, kEcx, 20, "sse4_2"}, {1, 0, kEcx, 21, "x2apic"},
    {1, 0, kEcx, 22, "movbe"}, {1, 0, kEcx, 23, "popcnt"},
    {1, 0, kEcx, 24, "tsc_deadline_timer"}, {1, 0, kEcx, 25, "aes"}, {1, 0, kEcx, 26, "xsave"},
    {1, 0, kEcx, 28, "avx"}, {1, 0, kEcx, 29, "f16c"}, {1, 0, kEcx, 30, "rdrand"},
    {1, 0, kEcx, 31, "hypervisor"},
    {0x80000001, 0, kEcx, 0, "lahf_lm"}, {0x80000001, 0, kEcx, 1, "cmp_legacy"},
    {0x80000001, 0, kEcx, 2, "svm"}, {0x80000001, 0, kEcx, 3, "extapic"},
    {0x80000001, 0, kEcx, 4, "cr8_legacy"}, {0x80000001, 0, kEcx, 5, "abm"},
    {0x80000001, 0, kEcx, 6, "sse4a"}, {0x80000001, 0, kEcx, 7, "misalignsse"},
    {0x80000001, 0, kEcx, 8, "3dnowprefetch"}, {0x80000001, 0, kEcx, 9, "osvw"},
    {0x80000001, 0, kEcx, 11, "xop"}, {0x80000001, 0, kEcx, 16, "fma4"},
    {0x80000001, 0, kEcx, 21, "tbm"}, {0x80000001, 0, kEcx, 22, "topoext"},
    {0x80000001, 0, kEcx, 23, "perfctr_core"},
    {7, 0, kEbx, 0, "fsgsbase"}, {7, 0, kEbx, 1, "tsc_adjust"}, {7, 0, kEbx, 3, "bmi1"},
    {7, 0, kEbx, 4, "hle"}, {7, 0, kEbx, 5, "avx2"}, {7, 0, kEbx, 7, "smep"},
    {7, 0, kEbx, 8, "bmi2"}, {7, 0, kEbx, 9, "erms"}, {7, 0, kEbx, 10, "invpcid"},
    {7, 0, kEbx, 11, "rtm"}, {7, 0, kEbx, 14, "mpx"}, {7, 0, kEbx, 16, "avx512f"},
    {7, 0, kEbx, 17, "avx512dq"}, {7, 0, kEbx, 18, "rdseed"}, {7, 0, kEbx, 19, "adx"},
    {7, 0, kEbx, 20, "smap"}, {7, 0, kEbx, 21, "avx512ifma"}, {7, 0, kEbx, 23, "clflushopt"},
    {7, 0, kEbx, 24, "clwb"}, {7, 0, kEbx, 28, "avx512cd"}, {7, 0, kEbx, 29, "sha_ni"},
    {7, 0, kEbx, 30, "avx512bw"}, {7, 0, kEbx, 31, "avx512vl"},
    {0xd, 1, kEax, 0, "xsaveopt"}, {0xd, 1, kEax, 1, "xsavec"}, {0xd, 1, kEax, 2, "xgetbv1"},
    {0xd, 1, kEax, 3, "xsaves"},
    {7, 1, kEax, 4, "avx_vnni"}, {7, 1, kEax, 5, "avx512_bf16"},
    {0x80000008, 0, kEbx, 0, "clzero"}, {0x80000008, 0, kEbx, 2, "xsaveerptr"},
    {0x80000008, 0, kEbx, 9, "wbnoinvd"},
    {6, 0, kEax, 2, "arat"},
    {7, 0, kEcx, 1, "avx512vbmi"}, {7, 0, kEcx, 2, "umip"}, {7, 0, kEcx, 3, "pku"},
    {7, 0, kEcx, 4, "ospke"}, {7, 0, kEcx, 5, "waitpkg"}, {7, 0, kEcx, 6, "avx512_vbmi2"},
    {7, 0, kEcx, 8, "gfni"}, {7, 0, kEcx, 9, "vaes"}, {7, 0, kEcx, 10, "vpclmulqdq"},
    {7, 0, kEcx, 11, "avx512_vnni"}, {7, 0, kEcx, 12, "avx512_bitalg"},
    {7, 0, kEcx, 14, "avx512_vpopcntdq"}, {7, 0, kEcx, 22, "rdpid"},
    {7, 0, kEcx, 25, "cldemote"}, {7, 0, kEcx, 27, "movdiri"}, {7, 0, kEcx, 28, "movdir64b"},
    {7, 0, kEdx, 4, "fsrm"}, {7, 0, kEdx, 8, "avx512_vp2intersect"}, {7, 0, kEdx, 10, "md_clear"},
    {7, 0, kEdx, 14, "serialize"}, {7, 0, kEdx, 16, "tsxldtrk"}, {7, 0, kEdx, 22, "amx_bf16"},
    {7, 0, kEdx, 23, "avx512_fp16"}, {7, 0, kEdx, 24, "amx_tile"}, {7, 0, kEdx, 25, "amx_int8"},
    {7, 0, kEdx, 28, "flush_l1d"}, {7, 0, kEdx, 29, "arch_capabilities"},
};

struct Leaf {
  uint32_t regs[4] = {};
};

Leaf Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Leaf l;
  if (static_cast<uint32_t>(__get_cpuid_max(leaf & 0x80000000u, nullptr)) < leaf) return l;
  __cpuid_count(leaf, subleaf, l.regs[kEax], l.regs[kEbx], l.regs[kEcx], l.regs[kEdx]);
  return l;
}

std::string FlagNames() {
  std::string out;
  for (const Flag& f : kFlags) {
    // A leaf is asked again for each flag: tens of them, once in a while.
    if ((Cpuid(f.leaf, f.subleaf).regs[f.reg] >> f.bit & 1) == 0) continue;
    if (!out.empty()) out += ' ';
    out += f.name;
  }
  return out;
}

std::string VendorName() {
  const Leaf l = Cpuid(0);
  char name[13] = {};
  memcpy(name, &l.regs[kEbx], 4);
  memcpy(name + 4, &l.regs[kEdx], 4);
  memcpy(name + 8, &l.regs[kEcx], 4);
  return name;
}

std::string ModelName() {
  char name[49] = {};
  for (uint32_t i = 0; i < 3; i++) {
    const Leaf l = Cpuid(0x80000002 + i);
    memcpy(name + i * 16, l.regs, 16);
  }
  const char* start = name;
  while (*start == ' ') start++;
  std::string text = start;
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.empty() ? "unknown" : text;
}

// Of the last level, in KiB (leaf 4, or AMD's 0x8000001d of the same form).
uint64_t CacheKib(bool amd) {
  uint64_t size = 0;
  for (uint32_t i = 0; i < 16; i++) {
    const Leaf l = Cpuid(amd ? 0x8000001d : 4, i);
    if ((l.regs[kEax] & 0x1f) == 0) break;
    const uint64_t ways = (l.regs[kEbx] >> 22) + 1, partitions = (l.regs[kEbx] >> 12 & 0x3ff) + 1;
    const uint64_t line = (l.regs[kEbx] & 0xfff) + 1, sets = uint64_t{l.regs[kEcx]} + 1;
    size = ways * partitions * line * sets / 1024;
  }
  return size;
}

}  // namespace

std::string CpuinfoText(const cpu_set_t& cpus, uint64_t tsc_khz) {
  const std::string vendor = VendorName();
  const Leaf one = Cpuid(1), sizes = Cpuid(0x80000008);
  const uint32_t signature = one.regs[kEax];
  uint32_t family = signature >> 8 & 0xf;
  uint32_t model = signature >> 4 & 0xf;
  if (family == 6 || family == 15) model |= signature >> 12 & 0xf0;
  if (family == 15) family += signature >> 20 & 0xff;
  const uint32_t line = (one.regs[kEbx] >> 8 & 0xff) * 8;
  const int count = CPU_COUNT(&cpus);
  const std::string name = ModelName(), flags = FlagNames();
  const unsigned long long cache = CacheKib(vendor == "AuthenticAMD");
  std::string out;
  int core = 0;
  for (size_t n = 0; n < CPU_SETSIZE; n++) {
    if (!CPU_ISSET(n, &cpus)) continue;
    AppendFormat(&out, "processor\t: %zu\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\n", n,
                 vendor.c_str(), family, model);
    AppendFormat(&out, "model name\t: %s\nstepping\t: %u\n", name.c_str(), signature & 0xf);
    AppendFormat(&out, "cpu MHz\t\t: %llu.%03llu\ncache size\t: %llu KB\n",
                 static_cast<unsigned long long>(tsc_khz / 1000),
                 static_cast<unsigned long long>(tsc_khz % 1000), cache);
    AppendFormat(&out,
                 "physical id\t: 0\nsiblings\t: %d\ncore id\t\t: %d\ncpu cores\t: %d\n"
                 "apicid\t\t: %zu\ninitial apicid\t: %zu\n",
                 count, core, count, n, n);
    AppendFormat(&out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %u\nwp\t\t: yes\n",
                 Cpuid(0).regs[kEax]);
    AppendFormat(&out, "flags\t\t: %s\nbugs\t\t: \n", flags.c_str());
    const unsigned long long bogo = tsc_khz * 2 / 10;
    AppendFormat(&out, "bogomips\t: %llu.%02llu\nclflush size\t: %u\ncache_alignment\t: %u\n",
                 bogo / 100, bogo % 100, line, line);
    AppendFormat(&out, "address sizes\t: %u bits physical, %u bits virtual\npower management:\n\n",
                 sizes.regs[kEax] & 0xff, sizes.regs[kEax] >> 8 & 0xff);
    core++;
  }
  return out;
}

}  // namespace ringwall::proc
