// The module's exports.
#include <napi.h>

#include "cpu/compute_peaks.h"
#include "cpu/isa/isa.h"
#include "cpu/read_bandwidth.h"
#include "host/thread_pool.h"
#include "convert.h"
#include "group.h"
#include "objects.h"
#include "weights/packed_weights.h"
#include "weights/panels.h"
#include "weights/quantise.h"
#include "weights/weights.h"
#include "worker.h"

namespace moepp::binding {

// writeTensors(path, header, tensors, dtypes, control?) -> Promise<void>
static Napi::Value write_tensors_async(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = info[0].ToString();
  if (!info[1].IsTypedArray() || !info[3].IsArray())
    throw Napi::TypeError::New(env, "header must be a Uint8Array, dtypes an array");
  const Napi::Uint8Array header = info[1].As<Napi::Uint8Array>();
  std::vector<uint8_t> bytes(header.Data(), header.Data() + header.ElementLength());
  std::vector<TensorRef> refs = to_tensor_refs(info[2]);
  std::vector<DType> dtypes;
  const Napi::Array names = info[3].As<Napi::Array>();
  for (uint32_t i = 0; i < names.Length(); i++) dtypes.push_back(to_dtype(names.Get(i)));
  if (dtypes.size() != refs.size())
    throw Napi::TypeError::New(env, "there must be one dtype for each tensor");
  const Control control = to_control(info[4]);
  auto kept =
      info[4].IsObject()
          ? std::make_shared<Napi::ObjectReference>(Napi::Persistent(info[4].As<Napi::Object>()))
          : nullptr;
  return PromiseWorker::start(
      env,
      [path, bytes = std::move(bytes), refs = std::move(refs), dtypes = std::move(dtypes),
       control] { return write_tensors(path, bytes, refs, dtypes, control); },
      [kept](Napi::Env finished, const Status&) -> Napi::Value { return finished.Undefined(); });
}

constexpr int64_t kBytesRead = int64_t{2} << 30;  // of a measurement: 0.2 s of two cores' memory

// readBandwidth(threads, mostBytes) -> () => Promise<number>: bytes per second that the threads
// read from memory. The function keeps up to mostBytes of memory as long as it lives.
static Napi::Value read_bandwidth(const Napi::CallbackInfo& info) {
  struct Reader {
    ThreadPool pool;
    cpu::ReadBandwidth bandwidth;
    Reader(int threads, int64_t most) : pool(threads), bandwidth(most) {}
  };
  const int threads = info[0].ToNumber().Int32Value();
  const int64_t most = info[1].ToNumber().Int64Value();
  std::shared_ptr<Reader> reader;
  const Status status = status_of([&] {
    reader = std::make_shared<Reader>(threads > 0 ? threads : available_threads(), most);
    return Status{};
  });
  if (!status.ok()) throw to_error(info.Env(), status);
  return Napi::Function::New(info.Env(), [reader](const Napi::CallbackInfo& call) -> Napi::Value {
    auto rate = std::make_shared<double>(0);
    return PromiseWorker::start(
        call.Env(),
        [reader, rate] { return reader->bandwidth.measure(kBytesRead, reader->pool, rate.get()); },
        [rate](Napi::Env env, const Status&) -> Napi::Value {
          return Napi::Number::New(env, *rate);
        });
  });
}

// computePeaks(threads, isa) -> Promise<object>: operations per second of each kind of
// multiply-add, by its name.
static Napi::Value compute_peaks_async(const Napi::CallbackInfo& info) {
  const int threads = info[0].ToNumber().Int32Value();
  const std::string isa = info[1].ToString();
  auto peaks = std::make_shared<std::vector<cpu::ComputePeak>>();
  return PromiseWorker::start(
      info.Env(),
      [threads, isa, peaks] { return cpu::measure_compute_peaks(threads, isa, peaks.get()); },
      [peaks](Napi::Env env, const Status&) -> Napi::Value {
        Napi::Object result = Napi::Object::New(env);
        for (const cpu::ComputePeak& peak : *peaks)
          result.Set(peak.name, Napi::Number::New(env, peak.operations_per_second));
        return result;
      });
}

// processor() -> { isas, cgroupThreads }. isas: the instruction sets of this build that the
// processor can run, best first. cgroupThreads: the whole CPUs that the control group allows, 0
// without a limit.
static Napi::Value processor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array isas = Napi::Array::New(env);
  for (const cpu::Isa& isa : cpu::available_isas())
    isas.Set(isas.Length(), Napi::String::New(env, isa.name));
  Napi::Object result = Napi::Object::New(env);
  result.Set("isas", isas);
  result.Set("cgroupThreads", Napi::Number::New(env, cgroup_threads("")));
  return result;
}

// fastestIsa(dtype, mayRoundX) -> string: the instruction set that is fastest here with weights of
// the dtype.
static Napi::Value fastest_isa(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(),
                           cpu::fastest_isa(to_dtype(info[0]), info[1].ToBoolean()).name);
}

// isDeviceName(name) -> boolean
static Napi::Value is_device_name_of(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), is_device_name(info[0].ToString()));
}

// packedLayout: { name, alignment, panelRows, blockInputs, blockBytes: { int8, int4 }, mostInputs
// }: the layout of packed weights (weights/panels.h). Sizes are in bytes; a block is blockInputs k
// of the rows of a panel.
static Napi::Object packed_layout(Napi::Env env) {
  Napi::Object blocks = Napi::Object::New(env);
  for (const DType dtype : {DType::kI8, DType::kI4})
    blocks.Set(dtype_name(dtype), static_cast<double>(block_bytes(dtype)));
  Napi::Object result = Napi::Object::New(env);
  result.Set("name", kPackedLayoutName);
  result.Set("alignment", static_cast<double>(kPackedAlignment));
  result.Set("panelRows", static_cast<double>(kPanelRows));
  result.Set("blockInputs", static_cast<double>(kQuantBlock));
  result.Set("blockBytes", blocks);
  result.Set("mostInputs", static_cast<double>(kMostQuantisedInputs));
  return result;
}

// cuda() -> { built, runtimeVersion, driverVersion, devices, problem, products }: native/device.h,
// CudaInfo.
static Napi::Value cuda(const Napi::CallbackInfo& info) {
  const CudaInfo about = cuda_info();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("built", about.built);
  result.Set("runtimeVersion", about.runtime_version);
  result.Set("driverVersion", about.driver_version);
  result.Set("devices", about.devices);
  result.Set("problem", about.problem);
  Napi::Array products = Napi::Array::New(info.Env());
  for (const int64_t launched : about.products)
    products.Set(products.Length(), static_cast<double>(launched));
  result.Set("products", products);
  return result;
}

// ncclVersion() -> number; throws ERR_UNSUPPORTED.
static Napi::Value version_of_nccl(const Napi::CallbackInfo& info) {
  int version = 0;
  const Status status = nccl_version(&version);
  if (!status.ok()) throw to_error(info.Env(), status);
  return Napi::Number::New(info.Env(), version);
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData;
  env.SetInstanceData(data);
  // Before Node takes down what calls of their threads need: hooks run in the reverse order.
  env.AddCleanupHook([env] { end_groups(env); });
  const Napi::Function program = ProgramObject::define(env), kv_cache = KvCacheObject::define(env);
  data->program = Napi::Persistent(program);
  data->kv_cache = Napi::Persistent(kv_cache);
  data->group = Napi::Persistent(GroupObject::define(env));
  exports.Set("Device", DeviceObject::define(env));
  exports.Set("Program", program);
  exports.Set("KvCache", kv_cache);
  exports.Set("writeTensors", Napi::Function::New<write_tensors_async>(env, "writeTensors"));
  exports.Set("readBandwidth", Napi::Function::New<read_bandwidth>(env, "readBandwidth"));
  exports.Set("cuda", Napi::Function::New<cuda>(env, "cuda"));
  exports.Set("computePeaks", Napi::Function::New<compute_peaks_async>(env, "computePeaks"));
  exports.Set("fastestIsa", Napi::Function::New<fastest_isa>(env, "fastestIsa"));
  exports.Set("isDeviceName", Napi::Function::New<is_device_name_of>(env, "isDeviceName"));
  exports.Set("packedLayout", packed_layout(env));
  exports.Set("ncclVersion", Napi::Function::New<version_of_nccl>(env, "ncclVersion"));
  exports.Set("openGroup", Napi::Function::New<open_group>(env, "openGroup"));
  exports.Set("localGroups", Napi::Function::New<local_groups>(env, "localGroups"));
  exports.Set("processor", Napi::Function::New<processor>(env, "processor"));
  return exports;
}

}  // namespace moepp::binding

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return moepp::binding::init(env, exports);
}

NODE_API_MODULE(moepp, init_addon)
