#include "convert.h"

#include <cmath>

namespace moepp::binding {

Napi::Error to_error(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message);
  error.Set("code", Napi::String::New(env, code_name(status.code)));
  if (!status.op.empty()) error.Set("op", Napi::String::New(env, status.op));
  return error;
}

static Napi::TypeError expected(Napi::Env env, const std::string& what, const char* type) {
  return Napi::TypeError::New(env, what + " must be " + type);
}

static std::string to_string(const Napi::Value& value, const char* what) {
  if (!value.IsString()) throw expected(value.Env(), what, "a string");
  return value.As<Napi::String>();
}

static int64_t to_integer(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) throw expected(value.Env(), what, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(std::fabs(number) <= 9007199254740991.0) || number != std::floor(number))
    throw expected(value.Env(), what, "a safe integer");
  return static_cast<int64_t>(number);
}

static Napi::Object to_object(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) throw expected(value.Env(), what, "an object");
  return value.As<Napi::Object>();
}

static Napi::Array array_of(const Napi::Object& object, const char* key) {
  const Napi::Value value = object.Get(key);
  if (!value.IsArray()) throw expected(object.Env(), key, "an array");
  return value.As<Napi::Array>();
}

Napi::Value own(const Napi::Object& object, const char* key) {
  return object.HasOwnProperty(key) ? object.Get(key) : object.Env().Undefined();
}

Napi::Array own_names(const Napi::Object& object) {
  const auto filter = static_cast<napi_key_filter>(napi_key_enumerable | napi_key_skip_symbols);
  napi_value names = nullptr;
  if (napi_get_all_property_names(object.Env(), object, napi_key_own_only, filter,
                                  napi_key_numbers_to_strings, &names) != napi_ok)
    throw Napi::Error::New(object.Env());
  return {object.Env(), names};
}

std::string string_of(const Napi::Object& object, const char* key) {
  return to_string(object.Get(key), key);
}
int64_t integer_of(const Napi::Object& object, const char* key) {
  return to_integer(object.Get(key), key);
}
int64_t integer_of(const Napi::Object& object, const char* key, int64_t absent) {
  const Napi::Value value = own(object, key);
  return value.IsUndefined() ? absent : to_integer(value, key);
}

DType to_dtype(const Napi::Value& value) {
  const std::string name = to_string(value, "dtype");
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBf16;
  if (name == "f16") return DType::kF16;
  if (name == "i32") return DType::kI32;
  if (name == "int8") return DType::kI8;
  if (name == "int4") return DType::kI4;
  if (name == "float8") return DType::kF8;
  throw expected(value.Env(), "dtype", "f32, bf16, f16, i32, int8, int4 or float8");
}

Layout to_layout(const Napi::Value& value) {
  const std::string name = to_string(value, "layout");
  if (name == "rows") return Layout::kRows;
  if (name == "matrix") return Layout::kMatrix;
  if (name == "gateUp") return Layout::kGateUp;
  throw expected(value.Env(), "layout", "rows, matrix or gateUp");
}

// A size, or the name of a Symbol.
static int64_t to_dimension(const Napi::Value& value) {
  if (!value.IsString()) {
    const int64_t size = to_integer(value, "dimension");
    if (size < 0) throw expected(value.Env(), "dimension", "at least 0");
    return size;
  }
  const std::string name = value.As<Napi::String>();
  if (name == "T") return kTokens;
  if (name == "R") return kRows;
  if (name == "B") return kSequences;
  if (name == "B+1") return kSequencesPlus1;
  if (name == "M") return kPages;
  if (name == "P") return kReceived;
  throw expected(value.Env(), "dimension", "a size or T, R, B, B+1, M or P");
}

static Shape shape_of(const Napi::Object& object, const char* key = "shape") {
  const Napi::Array array = array_of(object, key);
  Shape shape;
  for (uint32_t i = 0; i < array.Length(); i++) shape.push_back(to_dimension(array.Get(i)));
  return shape;
}

static HeadRows to_head_rows(const Napi::Object& object) {
  HeadRows rows;
  rows.heads = integer_of(object, "heads");
  rows.first = integer_of(object, "first");
  rows.count = integer_of(object, "count");
  rows.transposed = own(object, "transposed").ToBoolean();
  if (rows.heads < 1) throw expected(object.Env(), "heads", "at least 1");
  return rows;
}

static TensorRef to_tensor_ref(const Napi::Object& object) {
  TensorRef ref;
  ref.name = string_of(object, "name");
  ref.dtype = to_dtype(object.Get("dtype"));
  ref.shape = shape_of(object);
  ref.file = string_of(object, "file");
  const Napi::Value packed = own(object, "packed");
  if (!packed.IsUndefined()) ref.packed = to_layout(packed);
  const int64_t offset = integer_of(object, "byteOffset"),
                length = integer_of(object, "byteLength");
  if (offset < 0 || length < 0)
    throw expected(object.Env(), "byteOffset and byteLength", "at least 0");
  ref.byte_offset = static_cast<uint64_t>(offset);
  ref.byte_length = static_cast<uint64_t>(length);
  if (own(object, "strides").IsUndefined()) {
    ref.strides.resize(ref.shape.size());
    int64_t stride = 1;
    for (size_t i = ref.shape.size(); i-- > 0;) {
      ref.strides[i] = stride;
      if (__builtin_mul_overflow(stride, ref.shape[i], &stride))
        throw expected(object.Env(), "shape", "of a size that fits in 64 bits");
    }
  } else {
    ref.strides = shape_of(object, "strides");
    if (ref.strides.size() != ref.shape.size())
      throw expected(object.Env(), "strides", "as long as shape");
  }
  const Napi::Value rows = own(object, "rows");
  if (!rows.IsUndefined()) ref.rows = to_head_rows(to_object(rows, "rows"));
  const Napi::Value scale = own(object, "scale");
  if (scale.IsUndefined()) return ref;
  const Napi::Object scales = to_object(scale, "scale");
  if (!own(scales, "scale").IsUndefined()) throw expected(object.Env(), "scale", "without a scale");
  ref.scale = {to_tensor_ref(scales)};
  return ref;
}

std::vector<TensorRef> to_tensor_refs(const Napi::Value& value) {
  if (!value.IsArray()) throw expected(value.Env(), "tensors", "an array");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<TensorRef> refs;
  for (uint32_t i = 0; i < array.Length(); i++)
    refs.push_back(to_tensor_ref(to_object(array.Get(i), "tensor")));
  return refs;
}

WeightSpec to_weight_spec(const Napi::Object& object) {
  return {string_of(object, "name"), to_dtype(object.Get("dtype")), shape_of(object),
          to_tensor_refs(object.Get("parts"))};
}

static double to_double(const Napi::Value& value, const std::string& what) {
  if (!value.IsNumber()) throw expected(value.Env(), what, "a number or a list of numbers");
  return value.As<Napi::Number>().DoubleValue();
}

static Attribute to_attribute(const Napi::Value& value, const std::string& field) {
  if (!value.IsArray()) return to_double(value, field);
  const Napi::Array list = value.As<Napi::Array>();
  if (list.Length() > Attribute::kMostNumbers)
    throw expected(value.Env(), field, "a list of at most 1024 numbers");
  Attribute attribute;
  for (uint32_t i = 0; i < list.Length(); i++)
    attribute.numbers.push_back(to_double(list.Get(i), field));
  return attribute;
}

static OpSpec to_op_spec(const Napi::Object& object) {
  OpSpec op;
  op.op = string_of(object, "op");
  op.label = string_of(object, "label");
  const Napi::Object tensors = to_object(object.Get("tensors"), "tensors");
  const Napi::Array names = own_names(tensors);
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string field = to_string(names.Get(i), "field");
    op.tensors[field] = string_of(tensors, field.c_str());
  }
  const Napi::Object attributes = to_object(object.Get("attributes"), "attributes");
  const Napi::Array fields = own_names(attributes);
  for (uint32_t i = 0; i < fields.Length(); i++) {
    const std::string field = to_string(fields.Get(i), "field");
    op.attributes[field] = to_attribute(attributes.Get(field), field);
  }
  return op;
}

static Compute to_compute(const Napi::Value& value) {
  const std::string name = to_string(value, "compute");
  if (name == "exact") return Compute::kExact;
  if (name == "bf16") return Compute::kBf16;
  throw expected(value.Env(), "compute", "exact or bf16");
}

ProgramSpec to_program_spec(const Napi::Object& object) {
  ProgramSpec spec;
  const Napi::Array buffers = array_of(object, "buffers");
  for (uint32_t i = 0; i < buffers.Length(); i++) {
    const Napi::Object buffer = to_object(buffers.Get(i), "buffer");
    spec.buffers.push_back(
        {string_of(buffer, "name"), to_dtype(buffer.Get("dtype")), shape_of(buffer)});
  }
  const Napi::Array weights = array_of(object, "weights");
  for (uint32_t i = 0; i < weights.Length(); i++) {
    spec.weights.push_back(to_weight_spec(to_object(weights.Get(i), "weight")));
  }
  const Napi::Array ops = array_of(object, "ops");
  for (uint32_t i = 0; i < ops.Length(); i++)
    spec.ops.push_back(to_op_spec(to_object(ops.Get(i), "op")));
  const Napi::Array lookups = array_of(object, "lookups");
  for (uint32_t i = 0; i < lookups.Length(); i++) {
    const Napi::Object lookup = to_object(lookups.Get(i), "lookup");
    spec.lookups.push_back({string_of(lookup, "label"),
                            to_weight_spec(to_object(lookup.Get("table"), "table")),
                            string_of(lookup, "rows"), string_of(lookup, "out")});
  }
  const Napi::Array outputs = array_of(object, "outputs");
  for (uint32_t i = 0; i < outputs.Length(); i++)
    spec.outputs.push_back(to_string(outputs.Get(i), "output"));
  spec.compute = to_compute(object.Get("compute"));
  return spec;
}

Sizes to_sizes(const Napi::Object& object) {
  Sizes sizes;
  sizes.tokens = integer_of(object, "T");
  sizes.rows = integer_of(object, "R");
  sizes.sequences = integer_of(object, "B");
  sizes.pages = integer_of(object, "M");
  sizes.received = integer_of(object, "P", sizes.tokens);
  // A step of a rank without tokens has no sequences; the program says whether it may.
  if (sizes.tokens < 0 || sizes.rows < 0 || sizes.sequences < (sizes.tokens > 0 ? 1 : 0) ||
      sizes.pages < 0 || sizes.received < sizes.tokens) {
    throw expected(object.Env(), "sizes", "at least 0, B at least 1 with tokens, and P at least T");
  }
  for (const int64_t size :
       {sizes.tokens, sizes.rows, sizes.sequences, sizes.pages, sizes.received}) {
    if (size > INT32_MAX) throw expected(object.Env(), "sizes", "below 2^31");
  }
  return sizes;
}

Control to_control(const Napi::Value& value) {
  if (value.IsUndefined()) return {};
  if (!value.IsTypedArray() ||
      value.As<Napi::TypedArray>().TypedArrayType() != napi_bigint64_array ||
      value.As<Napi::TypedArray>().ElementLength() != 2) {
    throw expected(value.Env(), "control", "a BigInt64Array of 2");
  }
  static_assert(sizeof(std::atomic<int64_t>) == sizeof(int64_t),
                "the cells are shared with JavaScript");
  auto* cells = reinterpret_cast<std::atomic<int64_t>*>(value.As<Napi::BigInt64Array>().Data());
  return {cells, cells + 1};
}

std::shared_ptr<Napi::ObjectReference> keep(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  return std::make_shared<Napi::ObjectReference>(Napi::Persistent(value.As<Napi::Object>()));
}

HostBuffer host_buffer(const Napi::Value& value, DType dtype, const std::string& name) {
  const napi_typedarray_type wanted = dtype == DType::kI32 ? napi_int32_array : napi_float32_array;
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != wanted) {
    throw Napi::TypeError::New(
        value.Env(),
        name + " must be " + (dtype == DType::kI32 ? "an Int32Array" : "a Float32Array"));
  }
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  auto* bytes = static_cast<std::byte*>(array.ArrayBuffer().Data());
  return {bytes + array.ByteOffset(), static_cast<int64_t>(array.ByteLength())};
}

}  // namespace moepp::binding
