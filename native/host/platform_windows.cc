// Windows. It has run under Wine alone.
#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <algorithm>
#include <vector>

#include "platform.h"

namespace moepp {

static std::wstring wide(const std::string& utf8) {
  const int length = static_cast<int>(utf8.size());
  std::wstring text(
      static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, utf8.data(), length, nullptr, 0)), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, utf8.data(), length, text.data(), static_cast<int>(text.size()));
  return text;
}

// A path as the system's functions take it. They take no more than 259 characters, unless a whole
// path says that it may be longer.
static std::wstring file_name(const std::string& path) {
  const std::wstring given = wide(path);
  std::wstring whole(GetFullPathNameW(given.c_str(), 0, nullptr, nullptr), L'\0');
  whole.resize(
      GetFullPathNameW(given.c_str(), static_cast<DWORD>(whole.size()), whole.data(), nullptr));
  if (whole.size() < MAX_PATH || whole.rfind(L"\\\\?\\", 0) == 0) return whole;
  if (whole.rfind(L"\\\\", 0) == 0) return L"\\\\?\\UNC" + whole.substr(1);  // another machine
  return L"\\\\?\\" + whole;
}

static std::string error_text() {
  return "Windows error " + std::to_string(GetLastError());
}

// The view keeps the file open: neither the handle of the file nor that of the mapping is needed
// once it exists.
Status MappedFile::open(const std::string& path, std::shared_ptr<MappedFile>* file) {
  const HANDLE handle = CreateFileW(file_name(path).c_str(), GENERIC_READ,
                                    FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING,
                                    FILE_ATTRIBUTE_NORMAL | FILE_FLAG_SEQUENTIAL_SCAN, nullptr);
  if (handle == INVALID_HANDLE_VALUE) {
    const std::string text = error_text();
    const DWORD attributes = GetFileAttributesW(file_name(path).c_str());
    const bool is_folder =
        attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
    return Status::error(Code::kNotFound, path + (is_folder ? " is not a regular file"
                                                            : " cannot be opened: " + text));
  }
  LARGE_INTEGER size{};
  if (GetFileType(handle) != FILE_TYPE_DISK || !GetFileSizeEx(handle, &size)) {
    CloseHandle(handle);
    return Status::error(Code::kNotFound, path + " is not a regular file");
  }
  auto opened = std::make_shared<MappedFile>();
  opened->size_ = static_cast<uint64_t>(size.QuadPart);
  if (opened->size_ > 0) {
    const HANDLE mapping = CreateFileMappingW(handle, nullptr, PAGE_READONLY, 0, 0, nullptr);
    const void* data =
        mapping == nullptr ? nullptr : MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    const std::string text = error_text();
    if (mapping != nullptr) CloseHandle(mapping);
    if (data == nullptr) {
      CloseHandle(handle);
      return Status::error(Code::kOutOfMemory, path + " cannot be mapped: " + text);
    }
    opened->data_ = static_cast<const std::byte*>(data);
  }
  CloseHandle(handle);
  *file = std::move(opened);
  return {};
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) UnmapViewOfFile(data_);
}

// Unlocking pages that are not locked takes them out of the working set (and reports failure, which
// means nothing here).
void MappedFile::drop(uint64_t offset, uint64_t bytes) const {
  if (bytes > 0) VirtualUnlock(const_cast<std::byte*>(data_) + offset, static_cast<SIZE_T>(bytes));
}

void MappedFile::keep(uint64_t, uint64_t) const {}     // the system keeps what is read
void MappedFile::scatter(uint64_t, uint64_t) const {}  // nor reads it much around a fault

void MappedFile::fetch(uint64_t offset, uint64_t bytes) const {
  WIN32_MEMORY_RANGE_ENTRY range = {const_cast<std::byte*>(data_) + offset,
                                    static_cast<SIZE_T>(bytes)};
  if (bytes > 0) PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0);
}

static Status cannot_write(const std::string& path) {
  return Status::error(Code::kCannotWrite, path + " cannot be written: " + error_text());
}

static HANDLE as_handle(intptr_t handle) {
  return reinterpret_cast<HANDLE>(handle);
}

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)),
      handle_(reinterpret_cast<intptr_t>(CreateFileW(file_name(path_).c_str(), GENERIC_WRITE, 0,
                                                     nullptr, CREATE_NEW, FILE_ATTRIBUTE_NORMAL,
                                                     nullptr))) {
  if (as_handle(handle_) == INVALID_HANDLE_VALUE) opened_ = cannot_write(path_);
}

OutputFile::~OutputFile() {
  if (as_handle(handle_) != INVALID_HANDLE_VALUE) CloseHandle(as_handle(handle_));
}

Status OutputFile::opened() const {
  return opened_;
}

Status OutputFile::write(const void* data, size_t bytes) {
  const auto* at = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    DWORD written = 0;
    const DWORD part = static_cast<DWORD>(std::min(bytes, size_t{1} << 30));
    if (!WriteFile(as_handle(handle_), at, part, &written, nullptr) || written == 0)
      return cannot_write(path_);
    at += written;
    bytes -= written;
  }
  return {};
}

Status OutputFile::sync() {
  return FlushFileBuffers(as_handle(handle_)) ? Status{} : cannot_write(path_);
}

// Committed memory: Windows counts it at once, and backs it where it is touched. Its large pages
// need a privilege.
void* allocate_pages(int64_t bytes) {
  return VirtualAlloc(nullptr, static_cast<SIZE_T>(std::max<int64_t>(bytes, 1)),
                      MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void release_pages(void* data, int64_t bytes) {
  VirtualFree(data, 0, MEM_RELEASE);
}

int64_t last_level_cache_bytes() {
  return 0;
}

Status load_library(const std::string& path, const char* symbol, void** function) {
  const HMODULE library = LoadLibraryW(wide(path).c_str());
  *function =
      library != nullptr ? reinterpret_cast<void*>(GetProcAddress(library, symbol)) : nullptr;
  if (*function != nullptr) return {};
  return Status::error(Code::kUnsupported, path + " could not be loaded: " + error_text());
}

void set_default_variable(const char* name, const char* value) {
  if (GetEnvironmentVariableA(name, nullptr, 0) == 0) SetEnvironmentVariableA(name, value);
}

std::string processor_model() {
  char name[256] = "";
  DWORD size = sizeof(name);
  const LSTATUS status =
      RegGetValueA(HKEY_LOCAL_MACHINE, "HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0",
                   "ProcessorNameString", RRF_RT_REG_SZ, nullptr, name, &size);
  return status == ERROR_SUCCESS ? std::string(name) : "unknown";
}

}  // namespace moepp

#endif
