// Linux and macOS.
#if !defined(_WIN32)

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include "platform.h"

namespace moepp {

static std::string errno_text() {
  return std::strerror(errno);
}

Status MappedFile::open(const std::string& path, std::shared_ptr<MappedFile>* file) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Status::error(Code::kNotFound, path + " cannot be opened: " + errno_text());
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return Status::error(Code::kNotFound, path + " is not a regular file");
  }
  auto opened = std::make_shared<MappedFile>();
  opened->size_ = static_cast<uint64_t>(status.st_size);
  if (opened->size_ > 0) {
    void* data = mmap(nullptr, opened->size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      const std::string text = errno_text();
      ::close(fd);
      return Status::error(Code::kOutOfMemory, path + " cannot be mapped: " + text);
    }
    opened->data_ = static_cast<const std::byte*>(data);
    madvise(data, opened->size_, MADV_SEQUENTIAL);
  }
  ::close(fd);
  *file = std::move(opened);
  return {};
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

// Whole pages that hold the bytes.
static void advise(const std::byte* data, uint64_t offset, uint64_t bytes, int advice) {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  if (bytes > 0) madvise(const_cast<std::byte*>(data) + begin, offset + bytes - begin, advice);
}

void MappedFile::drop(uint64_t offset, uint64_t bytes) const {
  advise(data_, offset, bytes, MADV_DONTNEED);
}

void MappedFile::keep(uint64_t offset, uint64_t bytes) const {
  advise(data_, offset, bytes, MADV_NORMAL);
  advise(data_, offset, bytes, MADV_WILLNEED);
}

void MappedFile::scatter(uint64_t offset, uint64_t bytes) const {
  advise(data_, offset, bytes, MADV_RANDOM);
}

void MappedFile::fetch(uint64_t offset, uint64_t bytes) const {
  advise(data_, offset, bytes, MADV_WILLNEED);
}

static Status cannot_write(const std::string& path) {
  return Status::error(Code::kCannotWrite, path + " cannot be written: " + errno_text());
}

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)),
      handle_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (handle_ < 0) opened_ = cannot_write(path_);
}

OutputFile::~OutputFile() {
  if (handle_ >= 0) ::close(static_cast<int>(handle_));
}

Status OutputFile::opened() const {
  return opened_;
}

Status OutputFile::write(const void* data, size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t written =
        ::write(static_cast<int>(handle_), at, std::min(bytes, size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return cannot_write(path_);
    at += written;
    bytes -= static_cast<size_t>(written);
  }
  return {};
}

Status OutputFile::sync() {
  return fsync(static_cast<int>(handle_)) == 0 ? Status{} : cannot_write(path_);
}

void* allocate_pages(int64_t bytes) {
  void* data = mmap(nullptr, static_cast<size_t>(std::max<int64_t>(bytes, 1)),
                    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  constexpr int64_t kHugePage = int64_t{2} << 20;
  if (bytes >= kHugePage) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  return data;
}

void release_pages(void* data, int64_t bytes) {
  munmap(data, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
}

int64_t last_level_cache_bytes() {
#ifdef _SC_LEVEL3_CACHE_SIZE
  return std::max<int64_t>(0, sysconf(_SC_LEVEL3_CACHE_SIZE));
#else
  return 0;
#endif
}

Status load_library(const std::string& path, const char* symbol, void** function) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  *function = library != nullptr ? dlsym(library, symbol) : nullptr;
  if (*function != nullptr) return {};
  const char* words = dlerror();
  return Status::error(Code::kUnsupported, path + " could not be loaded: " +
                                               (words != nullptr ? words : "it lacks a symbol"));
}

void set_default_variable(const char* name, const char* value) {
  setenv(name, value, 0);
}

std::string processor_model() {
#if defined(__APPLE__)
  char name[256];
  size_t size = sizeof(name);
  return sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? std::string(name)
                                                                                : "unknown";
#else
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0)
      return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "unknown";
#endif
}

}  // namespace moepp

#endif
