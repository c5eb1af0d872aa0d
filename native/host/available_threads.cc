// Counts the threads that this process may use. std::from_chars only: strtol and its kin bind to
// symbols of a recent glibc.
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "thread_pool.h"

namespace moepp {

namespace {

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// The number that starts at *from, which then moves behind it; -1 when there is none ("max", or no
// such file).
int64_t read_number(const std::string& text, size_t* from) {
  while (*from < text.size() && text[*from] == ' ') ++*from;
  int64_t value = -1;
  const auto result = std::from_chars(text.data() + *from, text.data() + text.size(), value);
  if (result.ec != std::errc()) return -1;
  *from = static_cast<size_t>(result.ptr - text.data());
  return value;
}

int64_t read_number_file(const std::string& path) {
  size_t from = 0;
  return read_number(read_all(path), &from);
}

// Whole CPUs allowed by one group, at least 1; 0 without a limit.
int group_threads(const std::string& directory, bool v2) {
  int64_t quota = -1, period = -1;  // microseconds
  if (v2) {
    const std::string text = read_all(directory + "/cpu.max");
    size_t from = 0;
    quota = read_number(text, &from);
    period = read_number(text, &from);
  } else {
    quota = read_number_file(directory + "/cpu.cfs_quota_us");
    period = read_number_file(directory + "/cpu.cfs_period_us");
  }
  if (quota <= 0 || period <= 0) return 0;
  return quota < period ? 1 : static_cast<int>(quota / period);
}

// The least of a group and its parents; without the host's view of the path, the mount's root is
// the container's group.
int path_threads(const std::string& mount, std::string path, bool v2) {
  int least = 0;
  for (;;) {
    const int here = group_threads(mount + path, v2);
    if (here > 0 && (least == 0 || here < least)) least = here;
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || path.empty()) return least;
    path.resize(slash);
  }
}

bool has_word(const std::string& list, const std::string& word) {  // comma-separated
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

}  // namespace

int cgroup_threads(const std::string& root) {
  std::istringstream lines(read_all(root + "/proc/self/cgroup"));
  int least = 0;
  for (std::string line; std::getline(lines, line);) {  // "hierarchy:controllers:/path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && !has_word(controllers, "cpu")) continue;
    for (const char* mount : {"", "/unified", "/cpu", "/cpu,cpuacct"}) {
      const int here = path_threads(root + "/sys/fs/cgroup" + mount, line.substr(second + 1), v2);
      if (here > 0 && (least == 0 || here < least)) least = here;
    }
  }
  return least;
}

int available_threads() {
  int threads = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) threads = CPU_COUNT(&cores);
  const int quota = cgroup_threads("");
  if (quota > 0 && quota < threads) threads = quota;
#endif
  return threads < 1 ? 1 : threads;
}

}  // namespace moepp
