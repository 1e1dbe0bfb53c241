// Where in the xsave area (xstate.h) the extended features of XCR0 lie, as core files tell it.
#ifndef RINGWALL_PLATFORM_XSAVE_LAYOUT_H_
#define RINGWALL_PLATFORM_XSAVE_LAYOUT_H_

#include <cstdint>

namespace ringwall {

struct XStatePart {
  uint32_t offset, size;
};
// feature: 2 and up.
XStatePart XStatePartOf(uint32_t feature);

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_XSAVE_LAYOUT_H_
