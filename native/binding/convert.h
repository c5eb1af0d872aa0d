// JavaScript values to native ones and back. A wrong type throws a TypeError: these are faults of
// our own TypeScript.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "device.h"
#include "program/program.h"
#include "status.h"

namespace moepp::binding {

// An Error with the properties code and op, which lib/addon/binding.ts turns into a MoeppError.
Napi::Error to_error(Napi::Env env, const Status& status);

ProgramSpec to_program_spec(const Napi::Object& object);
WeightSpec to_weight_spec(const Napi::Object& object);
Layout to_layout(const Napi::Value& value);
std::vector<TensorRef> to_tensor_refs(const Napi::Value& value);
Sizes to_sizes(const Napi::Object& object);
DType to_dtype(const Napi::Value& value);

// An own property of the object: a program may have put anything on Object.prototype. `own` is
// undefined where it has no such property.
Napi::Value own(const Napi::Object& object, const char* key);
Napi::Array own_names(const Napi::Object& object);

// The object's property, which must be of that type.
std::string string_of(const Napi::Object& object, const char* key);
int64_t integer_of(const Napi::Object& object, const char* key);
int64_t integer_of(const Napi::Object& object, const char* key, int64_t absent);

// A BigInt64Array [done bytes, cancelled], or nothing. The array must outlive the use of the
// result.
Control to_control(const Napi::Value& value);

// A persistent reference that a std::function can hold: copies share it, and the last one drops it
// on the main thread.
std::shared_ptr<Napi::ObjectReference> keep(const Napi::Value& value);
// The elements of a typed array of that type.
HostBuffer host_buffer(const Napi::Value& value, DType dtype, const std::string& name);

}  // namespace moepp::binding
