// What a line discipline tells characters apart by, and how its echoes are kept.
#ifndef RINGWALL_FS_DEVPTS_TERMINAL_CHARACTERS_H_
#define RINGWALL_FS_DEVPTS_TERMINAL_CHARACTERS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ringwall {

// As the kernel's <linux/ctype.h> has them: Latin-1.
inline bool IsControl(uint8_t c) { return c < 0x20 || c == 0x7f; }
inline bool IsUpper(uint8_t c) { return (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7); }
inline bool IsLower(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= 0xdf && c != 0xf7); }
inline bool IsWord(uint8_t c) { return (c >= '0' && c <= '9') || c == '_' || IsUpper(c) || IsLower(c); }
inline uint8_t ToLower(uint8_t c) { return IsUpper(c) ? static_cast<uint8_t>(c + 0x20) : c; }
inline uint8_t ToUpper(uint8_t c) { return IsLower(c) ? static_cast<uint8_t>(c - 0x20) : c; }

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline constexpr uint32_t kExtProc = 0200000;  // EXTPROC

// Echoes are kept as bytes. After this one comes what else is to be done: itself for itself, a control
// character to be shown as ^X, or one of those below.
inline constexpr uint8_t kEchoEscape = 0xff;
inline constexpr uint8_t kStepBack = 0x80;    // the last byte took no column
inline constexpr uint8_t kMarkColumn = 0x81;  // the line that is edited begins here
inline constexpr uint8_t kEraseTab = 0x82;    // then: how many columns come before it
inline constexpr uint8_t kAfterTab = 0x80;    // ... counted from another tab, not from the line's begin

}  // namespace ringwall

#endif  // RINGWALL_FS_DEVPTS_TERMINAL_CHARACTERS_H_
