// The JavaScript classes of the addon. Each holds native objects by shared pointers: closing or
// collecting one never pulls memory from under a run.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <vector>

#include "device.h"
#include "program/program.h"

namespace moepp::binding {

class GroupThread;

// The constructors of one environment (the main thread, or a worker), and its groups of ranks.
struct AddonData {
  Napi::FunctionReference program, kv_cache, group;
  std::vector<std::weak_ptr<GroupThread>> groups;
};

// The native object handed to a constructor by this addon; scripts cannot make one.
template <class T>
T take(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "this class is made by Device");
  std::unique_ptr<T> value(info[0].As<Napi::External<T>>().Data());
  return std::move(*value);
}

class DeviceObject : public Napi::ObjectWrap<DeviceObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit DeviceObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value info(const Napi::CallbackInfo& info);
  Napi::Value join(const Napi::CallbackInfo& info);
  Napi::Value compile(const Napi::CallbackInfo& info);
  Napi::Value kv_cache(const Napi::CallbackInfo& info);
  Napi::Value weight_bytes(const Napi::CallbackInfo& info);
  Napi::Value write_packed(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
  const std::shared_ptr<Device>& device_of(Napi::Env env) const;

  std::shared_ptr<Device> device_;
};

class KvCacheObject : public Napi::ObjectWrap<KvCacheObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit KvCacheObject(const Napi::CallbackInfo& info);
  const std::shared_ptr<KvCache>& cache() const { return cache_; }

 private:
  KvCache& open_cache(Napi::Env env) const;
  Napi::Value read_page(const Napi::CallbackInfo& info);
  void write_page(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<KvCache> cache_;
};

class ProgramObject : public Napi::ObjectWrap<ProgramObject> {
 public:
  static Napi::Function define(Napi::Env env);
  // Of a program and its group, or null.
  struct Parts {
    std::shared_ptr<Program> program;
    std::shared_ptr<GroupThread> group;
  };
  explicit ProgramObject(const Napi::CallbackInfo& info);

 private:
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value exchange_and_run(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value info(const Napi::CallbackInfo& info);
  // `work` runs the step on another thread. It sets *has_run to false if there was none to run.
  using RunStep = std::function<Status(Step* step, bool* has_run)>;
  Napi::Value start(const Napi::Value& options, RunStep work);
  void release_and_resolve();

  std::shared_ptr<Program> program_;
  std::shared_ptr<GroupThread> group_;  // its steps run on its thread
  bool running_ = false;
  bool closed_ = false;
  std::vector<Napi::Promise::Deferred> closing_;
};

}  // namespace moepp::binding
