// The operating system's services: mapped files, files to write, memory. Implemented in
// platform_posix.cc (Linux, macOS) and platform_windows.cc. Nothing else in native/ asks the system
// for anything, but for the count of threads (available_threads.cc). Paths are UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "status.h"

namespace moepp {

// A file mapped for reading. Its pages are the kernel's, and are given back as soon as drop() says
// that they are done with.
class MappedFile {
 public:
  static Status open(const std::string& path, std::shared_ptr<MappedFile>* file);
  MappedFile() = default;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  void drop(uint64_t offset, uint64_t bytes) const;
  // Says that these bytes will be read over and over, and soon.
  void keep(uint64_t offset, uint64_t bytes) const;
  // Says that few of these bytes will be read, here and there: the system reads nothing around.
  void scatter(uint64_t offset, uint64_t bytes) const;
  // Says that these bytes will be read soon: the system begins to, and does not wait.
  void fetch(uint64_t offset, uint64_t bytes) const;

 private:
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

// A new file being written, closed when it goes out of scope. Opening fails when the path exists.
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();
  Status opened() const;
  Status write(const void* data, size_t bytes);
  Status sync();  // to the disk

 private:
  std::string path_;
  intptr_t handle_;  // a file descriptor, or a HANDLE
  Status opened_;
};

// Zeroed memory on pages of its own, backed only where it is touched, by huge pages where the
// system gives them. Null when there is none. Release it with the same number of bytes.
void* allocate_pages(int64_t bytes);
void release_pages(void* data, int64_t bytes);

// Bytes of the largest cache that the system tells of, or 0.
int64_t last_level_cache_bytes();

// A function of a shared library, which stays loaded. Its own libraries may load more, which find
// the symbols of all of them.
Status load_library(const std::string& path, const char* symbol, void** function);

// Sets a variable of the environment that is not set.
void set_default_variable(const char* name, const char* value);

// The processor's name for itself, or "unknown".
std::string processor_model();

}  // namespace moepp
