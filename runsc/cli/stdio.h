// Descriptors 0 to 2 of runsc itself. A caller may have closed some: they must not be taken by a
// file that is opened later, and the program inside is to see them closed.
#ifndef RINGWALL_RUNSC_CLI_STDIO_H_
#define RINGWALL_RUNSC_CLI_STDIO_H_

namespace ringwall {

// Opens /dev/null in the place of each that is closed. Once, first thing.
void FillStdio();
bool StdioWasClosed(int fd);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CLI_STDIO_H_
