#include "sentry/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include "sentry/base/check.h"

namespace ringwall {

std::atomic<int> log_level_internal{static_cast<int>(LogLevel::kWarning)};

namespace {

LogConfig config;
constexpr const char* kLevelNames[] = {"error", "warning", "info", "debug"};

// Appends `text` as the inside of a JSON string; drops what does not fit.
size_t AppendJson(char* out, size_t at, size_t limit, const char* text) {
  for (; *text != '\0' && at + 8 < limit; text++) {
    const unsigned char c = static_cast<unsigned char>(*text);
    if (c == '"' || c == '\\') {
      out[at++] = '\\';
      out[at++] = *text;
    } else if (c < 0x20) {
      at += static_cast<size_t>(snprintf(out + at, limit - at, "\\u%04x", c));
    } else {
      out[at++] = *text;
    }
  }
  return at;
}

}  // namespace

void SetLogConfig(const LogConfig& c) {
  config = c;
  log_level_internal.store(static_cast<int>(c.level), std::memory_order_relaxed);
}

const LogConfig& GetLogConfig() { return config; }

void LogMessage(LogLevel level, const char* format, ...) {
  char message[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof(message), format, args);
  va_end(args);

  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  char when[48];
  const size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf(when + n, sizeof(when) - n, ".%06ldZ", now.tv_nsec / 1000);

  char line[2304];
  size_t at = 0;
  const char* level_name = kLevelNames[static_cast<int>(level)];
  if (config.format == LogFormat::kJson) {
    at = static_cast<size_t>(snprintf(line, sizeof(line),
                                      "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\","
                                      "\"pid\":%d,\"msg\":\"",
                                      when, level_name, config.process, getpid()));
    at = AppendJson(line, at, sizeof(line) - 4, message);
    line[at++] = '"';
    line[at++] = '}';
  } else {
    at = static_cast<size_t>(snprintf(line, sizeof(line), "%s %s %s: %s", when, config.process,
                                      level_name, message));
    if (at > sizeof(line) - 2) at = sizeof(line) - 2;
  }
  line[at++] = '\n';
  [[maybe_unused]] ssize_t ignored = ::write(config.fd, line, at);
}

void CheckFailed(const char* file, int line, const char* what) {
  LogMessage(LogLevel::kError, "%s:%d: this does not hold: %s", file, line, what);
  abort();
}

}  // namespace ringwall
