// Devices by their names. A device of another kind is a line in each function.
#include "device.h"

namespace moepp {

// The N of "cuda:N", or -1.
static int cuda_index(const std::string& name) {
  const std::string prefix = "cuda:", number = name.substr(0, 5) == prefix ? name.substr(5) : "";
  if (number.empty() || number.size() > 2 || (number.size() == 2 && number[0] == '0')) return -1;
  int index = 0;
  for (const char digit : number) {
    if (digit < '0' || digit > '9') return -1;
    index = 10 * index + digit - '0';
  }
  return index;
}

bool is_device_name(const std::string& name) {
  return name == "cpu" || cuda_index(name) >= 0;
}

Status open_device(const std::string& name, int threads, const std::string& isa,
                   std::shared_ptr<Device>* device) {
  if (name == "cpu") return open_cpu_device(threads, isa, device);
  if (cuda_index(name) >= 0) return open_cuda_device(cuda_index(name), device);
  return Status::error(Code::kUnsupported, "there is no device named " + name);
}

}  // namespace moepp
