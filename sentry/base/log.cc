#include "sentry/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "sentry/base/check.h"

namespace ringwall {

std::atomic<int> log_level_internal{static_cast<int>(LogLevel::kWarning)};

namespace {

LogConfig config;
// Of the process that set it: filtered processes may not ask.
pid_t own_pid = 0;
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

// UTC in ISO 8601. Not gmtime_r: that takes a lock and looks for the time zone's file.
void FormatNow(char* out, size_t size) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t second = now.tv_sec % 86400;
  // Days since 1 March of year 0, whose years end with the leap day.
  const int64_t day = now.tv_sec / 86400 + 719468;
  const int64_t era = day / 146097;  // of 400 years
  const int64_t day_of_era = day % 146097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_of_year + 2) / 153;
  const int64_t day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
  const int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", static_cast<int>(year),
           static_cast<int>(month), static_cast<int>(day_of_month), static_cast<int>(second / 3600),
           static_cast<int>(second / 60 % 60), static_cast<int>(second % 60),
           static_cast<int>(now.tv_nsec / 1000));
}

}  // namespace

void SetLogConfig(const LogConfig& c) {
  config = c;
  own_pid = getpid();
  log_level_internal.store(static_cast<int>(c.level), std::memory_order_relaxed);
}

const LogConfig& GetLogConfig() { return config; }

void LogMessage(LogLevel level, const char* format, ...) {
  char message[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof(message), format, args);
  va_end(args);

  char when[64];
  FormatNow(when, sizeof(when));

  char line[2304];
  size_t at = 0;
  const char* level_name = kLevelNames[static_cast<int>(level)];
  if (config.format == LogFormat::kJson) {
    at = static_cast<size_t>(snprintf(line, sizeof(line),
                                      "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\","
                                      "\"pid\":%d,\"msg\":\"",
                                      when, level_name, config.process, own_pid));
    at = AppendJson(line, at, sizeof(line) - 4, message);
    line[at++] = '"';
    line[at++] = '}';
  } else if (config.format == LogFormat::kJsonK8s) {
    at = static_cast<size_t>(snprintf(line, sizeof(line),
                                      "{\"time\":\"%s\",\"level\":\"%s\",\"log\":\"%s: ", when,
                                      level_name, config.process));
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
