#include "objects.h"

#include <string>

#include "convert.h"
#include "group.h"
#include "weights/packed_weights.h"
#include "worker.h"

namespace moepp::binding {

// ---- Device

Napi::Function DeviceObject::define(Napi::Env env) {
  return DefineClass(
      env, "Device",
      {InstanceMethod<&DeviceObject::info>("info"), InstanceMethod<&DeviceObject::join>("join"),
       InstanceMethod<&DeviceObject::compile>("compile"),
       InstanceMethod<&DeviceObject::kv_cache>("kvCache"),
       InstanceMethod<&DeviceObject::weight_bytes>("weightBytes"),
       InstanceMethod<&DeviceObject::write_packed>("writePacked"),
       InstanceMethod<&DeviceObject::close>("close")});
}

// new Device(name, { threads, isa }): "cpu", or "cuda:0" and so on, which takes no options.
DeviceObject::DeviceObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const Napi::Object options =
      info[1].IsObject() ? info[1].As<Napi::Object>() : Napi::Object::New(info.Env());
  const std::string name = info[0].ToString();
  const Napi::Value isa = own(options, "isa");
  const int threads = static_cast<int>(integer_of(options, "threads", 0));
  const std::string isa_name = isa.IsUndefined() ? std::string() : std::string(isa.ToString());
  const Status status = status_of([&] { return open_device(name, threads, isa_name, &device_); });
  if (!status.ok()) throw to_error(info.Env(), status);
}

const std::shared_ptr<Device>& DeviceObject::device_of(Napi::Env env) const {
  if (device_ == nullptr) throw to_error(env, Status::error(Code::kClosed, "the device is closed"));
  return device_;
}

Napi::Value DeviceObject::info(const Napi::CallbackInfo& info) {
  const DeviceInfo about = device_of(info.Env())->info();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("name", about.name);
  result.Set("isa", about.isa);
  result.Set("threads", about.threads);
  result.Set("model", about.model);
  result.Set("freeBytes", static_cast<double>(about.free_bytes));
  result.Set("totalBytes", static_cast<double>(about.total_bytes));
  Napi::Array debug = Napi::Array::New(info.Env());
  for (const std::string& word : about.debug) debug.Set(debug.Length(), word);
  result.Set("debug", debug);
  result.Set("multiprocessors", about.multiprocessors);
  return result;
}

// join(group) -> Promise<void>: as all other ranks do it.
Napi::Value DeviceObject::join(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Device> device = device_of(info.Env());
  const std::shared_ptr<GroupThread> group = to_group(info[0]);
  if (group == nullptr) throw Napi::TypeError::New(info.Env(), "group must be a Group");
  return group->start(
      info.Env(), [device, group] { return device->join(group->group()); },
      [](Napi::Env env, const Status&) -> Napi::Value { return env.Undefined(); });
}

// compile(program, control?, group?) -> Promise<Program>
Napi::Value DeviceObject::compile(const Napi::CallbackInfo& info) {
  const std::shared_ptr<Device> device = device_of(info.Env());
  if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "program must be an object");
  auto spec = std::make_shared<ProgramSpec>(to_program_spec(info[0].As<Napi::Object>()));
  const Control control = to_control(info[1]);
  const std::shared_ptr<GroupThread> group = to_group(info[2]);
  const auto kept = keep(info[1]);
  auto program = std::make_shared<std::unique_ptr<Program>>();
  return PromiseWorker::start(
      info.Env(),
      [device, spec, control, program, group] {
        return Program::compile(device, *spec, control, program.get(), group_of(group));
      },
      [program, group, kept](Napi::Env env, const Status& status) -> Napi::Value {
        if (!status.ok()) return env.Undefined();
        auto* parts = new ProgramObject::Parts{std::move(*program), group};
        return env.GetInstanceData<AddonData>()->program.New(
            {Napi::External<ProgramObject::Parts>::New(env, parts)});
      });
}

// kvCache({ layers, pages, pageSize, kvHeads, keyDim, valueDim, dtype }) -> KvCache
Napi::Value DeviceObject::kv_cache(const Napi::CallbackInfo& info) {
  if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "options must be an object");
  const Napi::Object options = info[0].As<Napi::Object>();
  KvView shape;
  shape.dtype = to_dtype(options.Get("dtype"));
  if (shape.dtype != DType::kF32 && shape.dtype != DType::kBf16)
    throw Napi::TypeError::New(info.Env(), "dtype must be f32 or bf16");
  shape.layers = integer_of(options, "layers");
  shape.pages = integer_of(options, "pages");
  shape.page_size = integer_of(options, "pageSize");
  shape.kv_heads = integer_of(options, "kvHeads");
  shape.key_dim = integer_of(options, "keyDim");
  shape.value_dim = integer_of(options, "valueDim");
  auto cache = std::make_unique<std::shared_ptr<KvCache>>();
  const Status status = KvCache::create(device_of(info.Env()), shape, cache.get());
  if (!status.ok()) throw to_error(info.Env(), status);
  return info.Env().GetInstanceData<AddonData>()->kv_cache.New(
      {Napi::External<std::shared_ptr<KvCache>>::New(info.Env(), cache.release())});
}

// A weight whose every size is known, in a layout that it can have.
static PackedEntry to_packed_entry(const Napi::Value& weight, const Napi::Value& layout) {
  if (!weight.IsObject()) throw Napi::TypeError::New(weight.Env(), "weight must be an object");
  PackedEntry entry = {to_weight_spec(weight.As<Napi::Object>()), to_layout(layout)};
  const Shape& shape = entry.spec.shape;
  const bool rows = entry.layout == Layout::kRows;
  int64_t product = is_quantised(entry.spec.dtype) ? 64 : 4;
  for (const int64_t size : shape) {
    if (size < (is_quantised(entry.spec.dtype) ? 1 : 0) ||
        __builtin_mul_overflow(product, size, &product))
      throw Napi::TypeError::New(weight.Env(), entry.spec.name + ": its shape is not usable");
  }
  if (shape.empty() || (!rows && shape.size() != 2 && shape.size() != 3))
    throw Napi::TypeError::New(weight.Env(), entry.spec.name + ": panels hold [O, I] or [N, O, I]");
  if (rows && is_quantised(entry.spec.dtype))
    throw Napi::TypeError::New(weight.Env(),
                               entry.spec.name + ": int8 and int4 weights are in panels");
  return entry;
}

// weightBytes(weight, layout) -> number
Napi::Value DeviceObject::weight_bytes(const Napi::CallbackInfo& info) {
  const PackedEntry entry = to_packed_entry(info[0], info[1]);
  return Napi::Number::New(
      info.Env(),
      static_cast<double>(device_of(info.Env())->weight_bytes(entry.spec, entry.layout)));
}

// writePacked(path, header, [{ weight, layout, byteOffset }], control?) -> Promise<void>
Napi::Value DeviceObject::write_packed(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Device> device = device_of(env);
  const std::string path = info[0].ToString();
  if (!info[1].IsTypedArray() || !info[2].IsArray())
    throw Napi::TypeError::New(env, "header must be a Uint8Array, entries an array");
  const Napi::Uint8Array header = info[1].As<Napi::Uint8Array>();
  std::vector<uint8_t> bytes(header.Data(), header.Data() + header.ElementLength());
  const Napi::Array array = info[2].As<Napi::Array>();
  std::vector<PackedEntry> entries;
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value item = array.Get(i);
    if (!item.IsObject()) throw Napi::TypeError::New(env, "an entry must be an object");
    const Napi::Object object = item.As<Napi::Object>();
    entries.push_back(to_packed_entry(object.Get("weight"), object.Get("layout")));
    const int64_t offset = integer_of(object, "byteOffset");
    if (offset < 0) throw Napi::TypeError::New(env, "byteOffset must be at least 0");
    entries.back().byte_offset = static_cast<uint64_t>(offset);
  }
  const Control control = to_control(info[3]);
  const auto kept = keep(info[3]);
  return PromiseWorker::start(
      env,
      [device, path, bytes = std::move(bytes), entries = std::move(entries), control] {
        return moepp::write_packed(device, path, bytes, entries, control);
      },
      [kept](Napi::Env finished, const Status&) -> Napi::Value { return finished.Undefined(); });
}

void DeviceObject::close(const Napi::CallbackInfo&) {
  device_.reset();
}

// ---- KvCache

Napi::Function KvCacheObject::define(Napi::Env env) {
  return DefineClass(env, "KvCache",
                     {InstanceMethod<&KvCacheObject::read_page>("readPage"),
                      InstanceMethod<&KvCacheObject::write_page>("writePage"),
                      InstanceMethod<&KvCacheObject::close>("close")});
}

KvCacheObject::KvCacheObject(const Napi::CallbackInfo& info)
    : ObjectWrap(info), cache_(take<std::shared_ptr<KvCache>>(info)) {}

KvCache& KvCacheObject::open_cache(Napi::Env env) const {
  if (cache_ == nullptr)
    throw to_error(env, Status::error(Code::kClosed, "the kv cache is closed"));
  return *cache_;
}

// readPage(layer, page) -> Float32Array
Napi::Value KvCacheObject::read_page(const Napi::CallbackInfo& info) {
  KvCache& cache = open_cache(info.Env());
  const auto elements = static_cast<size_t>(cache.view().page_elements());
  Napi::Float32Array page = Napi::Float32Array::New(info.Env(), elements);
  const Status status = cache.read_page(info[0].ToNumber().Int64Value(),
                                        info[1].ToNumber().Int64Value(), page.Data());
  if (!status.ok()) throw to_error(info.Env(), status);
  return page;
}

// writePage(layer, page, values)
void KvCacheObject::write_page(const Napi::CallbackInfo& info) {
  KvCache& cache = open_cache(info.Env());
  const int64_t elements = cache.view().page_elements();
  const HostBuffer values = host_buffer(info[2], DType::kF32, "values");
  if (values.bytes != elements * 4)
    throw Napi::TypeError::New(info.Env(), "values must have " + std::to_string(elements) +
                                               " elements, got " +
                                               std::to_string(values.bytes / 4));
  const Status status =
      cache.write_page(info[0].ToNumber().Int64Value(), info[1].ToNumber().Int64Value(),
                       reinterpret_cast<const float*>(values.data));
  if (!status.ok()) throw to_error(info.Env(), status);
}

void KvCacheObject::close(const Napi::CallbackInfo&) {
  cache_.reset();
}

}  // namespace moepp::binding
