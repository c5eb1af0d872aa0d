// The JavaScript class of a program.
#include <cstring>
#include <string>

#include "convert.h"
#include "group.h"
#include "objects.h"
#include "worker.h"

namespace moepp::binding {

Napi::Function ProgramObject::define(Napi::Env env) {
  return DefineClass(env, "Program",
                     {InstanceMethod<&ProgramObject::run>("run"),
                      InstanceMethod<&ProgramObject::exchange_and_run>("exchangeAndRun"),
                      InstanceMethod<&ProgramObject::close>("close"),
                      InstanceMethod<&ProgramObject::info>("info")});
}

ProgramObject::ProgramObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Parts parts = take<Parts>(info);
  program_ = std::move(parts.program);
  group_ = std::move(parts.group);
}

Napi::Value ProgramObject::info(const Napi::CallbackInfo& info) {
  if (program_ == nullptr || closed_)
    throw to_error(info.Env(), Status::error(Code::kClosed, "the program is closed"));
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("weightBytes", static_cast<double>(program_->weight_bytes()));
  result.Set("stepBytes",
             running_ ? info.Env().Undefined()
                      : Napi::Number::New(info.Env(), static_cast<double>(program_->step_bytes())));
  return result;
}

// The typed arrays of one run's inputs, by the program's buffers.
static void read_inputs(const Program& program, const Napi::Object& inputs, Step* step) {
  const Napi::Array names = own_names(inputs);
  for (uint32_t i = 0; i < names.Length(); i++) {
    const std::string name = names.Get(i).ToString();
    DType dtype;
    Shape shape;
    if (!program.describe(name, step->sizes, &dtype, &shape)) {
      throw to_error(inputs.Env(),
                     Status::error(Code::kBadProgram, "there is no buffer named " + name));
    }
    step->inputs[name] = host_buffer(inputs.Get(name), dtype, name);
  }
}

// Makes the typed array of one result and adds it to `results`.
static void add_result(const Program& program, const std::string& name, Napi::Object results,
                       Step* step) {
  DType dtype;
  Shape shape;
  const Napi::Env env = results.Env();
  if (!program.describe(name, step->sizes, &dtype, &shape)) {
    throw to_error(
        env, Status::error(Code::kBadProgram, "there is no buffer named " + name + " to capture"));
  }
  size_t count = 1;
  for (const int64_t size : shape) count *= static_cast<size_t>(size);
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, count * 4);
  if (dtype == DType::kI32) {
    results.Set(name, Napi::Int32Array::New(env, count, buffer, 0));
  } else {
    results.Set(name, Napi::Float32Array::New(env, count, buffer, 0));
  }
  step->results[name] = {buffer.Data(), static_cast<int64_t>(count * 4)};
}

// [from, to] of each page to be copied, one behind the other.
static std::vector<PageCopy> to_page_copies(const Napi::Value& value) {
  if (value.IsUndefined()) return {};
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array ||
      value.As<Napi::Int32Array>().ElementLength() % 2 != 0) {
    throw Napi::TypeError::New(value.Env(), "copies must be an Int32Array of pairs");
  }
  const Napi::Int32Array pages = value.As<Napi::Int32Array>();
  std::vector<PageCopy> copies;
  for (size_t i = 0; i < pages.ElementLength(); i += 2) copies.push_back({pages[i], pages[i + 1]});
  return copies;
}

// run({ sizes, inputs, cache?, copies?, capture?, control? }) -> Promise<{ [buffer]: typed array }>
Napi::Value ProgramObject::run(const Napi::CallbackInfo& info) {
  return start(info[0], [program = program_](Step* step, bool*) { return program->run(*step); });
}

// The sum of the tokens that the messages begin with. A rank has something to say if its message is
// longer than that.
static Status read_tokens(const std::vector<parallel::Message>& messages, int64_t* tokens,
                          bool* has_letters) {
  *tokens = 0, *has_letters = false;
  for (size_t from = 0; from < messages.size(); from++) {
    uint32_t of_rank = 0;
    if (messages[from].body_bytes() < sizeof of_rank)
      return Status::error(Code::kParallel, "the mail of rank " + std::to_string(from) + " has " +
                                                std::to_string(messages[from].body_bytes()) +
                                                " bytes, expected at least 4");
    std::memcpy(&of_rank, messages[from].body(), sizeof of_rank);
    *tokens += of_rank;
    *has_letters = *has_letters || messages[from].body_bytes() > sizeof of_rank;
  }
  return {};
}

// exchangeAndRun(options, mail, onLetters) -> Promise<{ [buffer]: typed array } | undefined>
Napi::Value ProgramObject::exchange_and_run(const Napi::CallbackInfo& info) {
  if (group_ == nullptr)
    throw Napi::TypeError::New(info.Env(), "the program was compiled without a group");
  if (!info[2].IsFunction()) throw Napi::TypeError::New(info.Env(), "onLetters must be a function");
  using Messages = std::vector<parallel::Message>;
  auto mail = std::make_shared<Messages>(to_messages(info[1], group_->group().size()));
  auto on_letters =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[2].As<Napi::Function>()));
  return start(
      info[0],
      [program = program_, thread = group_.get(), mail, on_letters](Step* step,
                                                                    bool* has_run) -> Status {
        parallel::Group& group = thread->group();
        auto received = std::make_shared<Messages>();
        MOEPP_CHECK(group.exchange(parallel::Exchange::kMail, std::move(*mail), received.get()));
        bool has_letters = false;
        const Status read = read_tokens(*received, &step->sizes.received, &has_letters);
        if (!read.ok()) return group.fail(read);
        if (has_letters)
          thread->tell([received, on_letters](Napi::Env env) {
            on_letters->Call({to_arrays(env, *received)});
          });
        *has_run = step->sizes.received > 0;
        return *has_run ? program->run(*step) : Status();
      });
}

Napi::Value ProgramObject::start(const Napi::Value& given, RunStep run_step) {
  const Napi::Env env = given.Env();
  if (closed_) throw to_error(env, Status::error(Code::kClosed, "the program is closed"));
  if (running_)
    throw to_error(env, Status::error(Code::kBusy, "the program is already running a step"));
  if (!given.IsObject()) throw Napi::TypeError::New(env, "step must be an object");
  const Napi::Object options = given.As<Napi::Object>();
  auto step = std::make_shared<Step>();
  if (!options.Get("sizes").IsObject() || !options.Get("inputs").IsObject())
    throw Napi::TypeError::New(env, "sizes and inputs must be objects");
  step->sizes = to_sizes(options.Get("sizes").As<Napi::Object>());
  step->control = to_control(own(options, "control"));
  read_inputs(*program_, options.Get("inputs").As<Napi::Object>(), step.get());
  const Napi::Value cache = own(options, "cache");
  if (!cache.IsUndefined()) {
    if (!cache.IsObject() ||
        !cache.As<Napi::Object>().InstanceOf(env.GetInstanceData<AddonData>()->kv_cache.Value())) {
      throw Napi::TypeError::New(env, "cache must be a KvCache");
    }
    step->cache = KvCacheObject::Unwrap(cache.As<Napi::Object>())->cache();
    if (step->cache == nullptr)
      throw to_error(env, Status::error(Code::kClosed, "the kv cache is closed"));
  }
  step->copies = to_page_copies(own(options, "copies"));
  Napi::Object results = Napi::Object::New(env);
  for (const std::string& name : program_->outputs())
    add_result(*program_, name, results, step.get());
  if (own(options, "capture").IsArray()) {
    const Napi::Array capture = options.Get("capture").As<Napi::Array>();
    for (uint32_t i = 0; i < capture.Length(); i++)
      add_result(*program_, capture.Get(i).ToString(), results, step.get());
  }
  running_ = true;
  Ref();
  const auto kept_step = keep(options), kept_results = keep(results);
  const auto has_run = std::make_shared<bool>(true);
  PromiseWorker::Work work = [run_step = std::move(run_step), step, has_run] {
    return run_step(step.get(), has_run.get());
  };
  PromiseWorker::Finish finish = [this, kept_step, kept_results, has_run](
                                     Napi::Env done, const Status&) -> Napi::Value {
    running_ = false;
    if (closed_) release_and_resolve();
    const Napi::Value value = *has_run ? kept_results->Value() : done.Undefined();
    Unref();
    return value;
  };
  return group_ != nullptr ? group_->start(env, std::move(work), std::move(finish))
                           : PromiseWorker::start(env, std::move(work), std::move(finish));
}

// close() -> Promise<void>: waits for the run in flight.
Napi::Value ProgramObject::close(const Napi::CallbackInfo& info) {
  closed_ = true;
  closing_.push_back(Napi::Promise::Deferred::New(info.Env()));
  const Napi::Promise promise = closing_.back().Promise();
  if (!running_) release_and_resolve();
  return promise;
}

void ProgramObject::release_and_resolve() {
  program_.reset();
  for (const Napi::Promise::Deferred& deferred : closing_) deferred.Resolve(Env().Undefined());
  closing_.clear();
}

}  // namespace moepp::binding
