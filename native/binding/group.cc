#include "group.h"

#include <cstdlib>
#include <cstring>

#include "objects.h"
#include "parallel/local.h"
#include "parallel/mpi.h"

namespace moepp::binding {

struct GroupThread::Job {
  PromiseWorker::Work work;
  PromiseWorker::Finish finish;
  Napi::Promise::Deferred deferred;
  Napi::ThreadSafeFunction settle;
  Status status;
};

GroupThread::GroupThread(std::unique_ptr<parallel::Communicator> communicator, int64_t deadline_ms)
    : group_(std::move(communicator), deadline_ms), thread_([this] { run(); }) {}

GroupThread::~GroupThread() {
  stop("it went without closing its group");
}

void GroupThread::stop(const std::string& reason) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  group_.abort(reason);
  if (thread_.joinable()) thread_.join();
}

Napi::Promise GroupThread::start(Napi::Env env, PromiseWorker::Work work,
                                 PromiseWorker::Finish finish) {
  auto* job = new Job{std::move(work),
                      std::move(finish),
                      Napi::Promise::Deferred::New(env),
                      // It keeps the process alive until it is released.
                      Napi::ThreadSafeFunction::New(env, Napi::Function(), "moepp group", 0, 1),
                      {}};
  const Napi::Promise promise = job->deferred.Promise();
  const std::lock_guard<std::mutex> lock(mutex_);
  jobs_.push_back(job);
  changed_.notify_all();
  return promise;
}

void GroupThread::run() {
  for (;;) {
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stopped_ || !jobs_.empty(); });
      if (stopped_) return;
      job = jobs_.front();
      jobs_.pop_front();
    }
    running_ = job;
    job->status = status_of(job->work);
    const auto settle = [](Napi::Env env, Napi::Function, Job* done) {
      if (env == nullptr) return;  // torn down: no one listens
      const std::unique_ptr<Job> owned(done);
      settle_promise(env, done->deferred, done->finish, done->status);
    };
    Napi::ThreadSafeFunction function = job->settle;  // the call may delete the job at once
    if (function.BlockingCall(job, settle) == napi_ok) function.Release();
  }
}

void GroupThread::tell(std::function<void(Napi::Env)> news) {
  using News = std::function<void(Napi::Env)>;
  // Calls of one function run in their order.
  auto owned = std::make_unique<News>(std::move(news));
  const auto run = [](Napi::Env env, Napi::Function, News* told) {
    const std::unique_ptr<News> kept(told);
    if (env != nullptr) (*kept)(env);
  };
  if (running_->settle.BlockingCall(owned.get(), run) == napi_ok) owned.release();
}

// ---- Group

std::vector<parallel::Message> to_messages(const Napi::Value& value, int ranks) {
  const Napi::Env env = value.Env();
  if (!value.IsArray() || value.As<Napi::Array>().Length() != static_cast<uint32_t>(ranks))
    throw Napi::TypeError::New(env, "messages must be an array of one for each of the " +
                                        std::to_string(ranks) + " ranks");
  std::vector<parallel::Message> messages;
  for (int r = 0; r < ranks; r++) {
    const Napi::Value item = value.As<Napi::Array>().Get(static_cast<uint32_t>(r));
    if (!item.IsTypedArray() || item.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
      throw Napi::TypeError::New(env, "a message must be a Uint8Array");
    const Napi::Uint8Array bytes = item.As<Napi::Uint8Array>();
    messages.push_back(parallel::Message::of_body(bytes.ByteLength()));
    if (bytes.ByteLength() > 0)
      std::memcpy(messages.back().body(), bytes.Data(), bytes.ByteLength());
  }
  return messages;
}

Napi::Array to_arrays(Napi::Env env, const std::vector<parallel::Message>& messages) {
  Napi::Array arrays = Napi::Array::New(env);
  for (const parallel::Message& message : messages) {
    Napi::Uint8Array bytes = Napi::Uint8Array::New(env, message.body_bytes());
    if (message.body_bytes() > 0) std::memcpy(bytes.Data(), message.body(), message.body_bytes());
    arrays.Set(arrays.Length(), bytes);
  }
  return arrays;
}

Napi::Function GroupObject::define(Napi::Env env) {
  return DefineClass(
      env, "Group",
      {InstanceAccessor<&GroupObject::rank>("rank"), InstanceAccessor<&GroupObject::size>("size"),
       InstanceMethod<&GroupObject::exchange>("exchange"),
       InstanceMethod<&GroupObject::abort>("abort"), InstanceMethod<&GroupObject::close>("close"),
       InstanceMethod<&GroupObject::info>("info")});
}

GroupObject::GroupObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (!info[0].IsExternal())
    throw Napi::TypeError::New(info.Env(), "this class is made by openGroup");
  using Shared = std::shared_ptr<GroupThread>;
  const std::unique_ptr<Shared> value(info[0].As<Napi::External<Shared>>().Data());
  thread_ = std::move(*value);
}

Napi::Value GroupObject::rank(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), thread_->group().rank());
}

Napi::Value GroupObject::size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), thread_->group().size());
}

// exchange(messages, waits?) -> Promise<Uint8Array[]>
Napi::Value GroupObject::exchange(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto messages = std::make_shared<std::vector<parallel::Message>>(
      to_messages(info[0], thread_->group().size()));
  const bool waits = info[1].ToBoolean();
  auto received = std::make_shared<std::vector<parallel::Message>>();
  return thread_->start(
      env,
      [thread = thread_, messages, received, waits] {
        return thread->group().exchange(parallel::Exchange::kMail, std::move(*messages),
                                        received.get(), waits);
      },
      [received](Napi::Env finished, const Status& status) -> Napi::Value {
        if (!status.ok()) return finished.Undefined();
        return to_arrays(finished, *received);
      });
}

void GroupObject::abort(const Napi::CallbackInfo& info) {
  thread_->group().abort(info[0].ToString());
}

// close() -> Promise<void>: after all other ranks have called it.
Napi::Value GroupObject::close(const Napi::CallbackInfo& info) {
  return thread_->start(
      info.Env(), [thread = thread_] { return thread->group().close(); },
      [](Napi::Env env, const Status&) -> Napi::Value { return env.Undefined(); });
}

Napi::Value GroupObject::info(const Napi::CallbackInfo& info) {
  const parallel::Counters counters = thread_->group().counters();
  Napi::Object result = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, int64_t value) {
    result.Set(name, static_cast<double>(value));
  };
  set("exchanges", counters.exchanges);
  set("messagesSent", counters.messages_sent);
  set("bytesSent", counters.bytes_sent);
  set("rowsSent", counters.rows_sent);
  set("picks", counters.picks);
  set("localPicks", counters.local_picks);
  result.Set("waitMs", static_cast<double>(counters.wait_ns) / 1e6);
  return result;
}

std::shared_ptr<GroupThread> to_group(const Napi::Value& value) {
  if (value.IsUndefined()) return nullptr;
  const Napi::FunctionReference& of = value.Env().GetInstanceData<AddonData>()->group;
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(of.Value()))
    throw Napi::TypeError::New(value.Env(), "group must be a Group");
  return GroupObject::Unwrap(value.As<Napi::Object>())->thread();
}

std::shared_ptr<parallel::Group> group_of(const std::shared_ptr<GroupThread>& thread) {
  return thread == nullptr ? nullptr : std::shared_ptr<parallel::Group>(thread, &thread->group());
}

// Every group of the process. process.exit() runs no hooks of the environment, and mpirun waits for
// the others then.
static void end_at_exit(const std::shared_ptr<GroupThread>& group) {
  static std::mutex mutex;
  static std::vector<std::weak_ptr<GroupThread>> groups;
  const std::lock_guard<std::mutex> lock(mutex);
  // Behind MPI's start, so that it runs before MPI's own end.
  if (groups.empty()) {
    std::atexit([] {
      for (const std::weak_ptr<GroupThread>& weak : groups)
        if (const std::shared_ptr<GroupThread> left = weak.lock()) left->stop("its process ends");
      parallel::finalize_mpi();
    });
  }
  groups.push_back(group);
}

static Napi::Object make_group(Napi::Env env, std::unique_ptr<parallel::Communicator> communicator,
                               int64_t deadline_ms) {
  auto* data = env.GetInstanceData<AddonData>();
  auto shared = std::make_unique<std::shared_ptr<GroupThread>>(
      std::make_shared<GroupThread>(std::move(communicator), deadline_ms));
  data->groups.push_back(*shared);
  end_at_exit(*shared);
  return data->group.New(
      {Napi::External<std::shared_ptr<GroupThread>>::New(env, shared.release())});
}

static int64_t deadline_of(const Napi::Env& env, int64_t deadline_ms) {
  if (deadline_ms >= 0 && deadline_ms <= INT32_MAX) return deadline_ms;
  throw Napi::TypeError::New(env, "deadlineMs must be 0 to 2^31 - 1");
}

Napi::Value open_group(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "options must be an object");
  const Napi::Object options = info[0].As<Napi::Object>();
  if (string_of(options, "kind") != "mpi") throw Napi::TypeError::New(env, "kind must be 'mpi'");
  const std::string library = string_of(options, "library");
  const int64_t deadline_ms = deadline_of(env, integer_of(options, "deadlineMs"));
  std::unique_ptr<parallel::Communicator> communicator;
  const Status status =
      status_of([&] { return parallel::open_mpi(library, deadline_ms, &communicator); });
  if (!status.ok()) throw to_error(env, status);
  return make_group(env, std::move(communicator), deadline_ms);
}

Napi::Value local_groups(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t size = info[0].ToNumber().Int64Value();
  if (size < 1 || size > 256) throw Napi::TypeError::New(env, "size must be 1 to 256");
  const int64_t deadline_ms = deadline_of(env, info[1].ToNumber().Int64Value());
  Napi::Array result = Napi::Array::New(env);
  for (auto& communicator : parallel::local_communicators(static_cast<int>(size)))
    result.Set(result.Length(), make_group(env, std::move(communicator), deadline_ms));
  return result;
}

void end_groups(Napi::Env env) {
  for (const std::weak_ptr<GroupThread>& group : env.GetInstanceData<AddonData>()->groups)
    if (const std::shared_ptr<GroupThread> thread = group.lock()) thread->stop("its process ends");
  parallel::finalize_mpi();
}

}  // namespace moepp::binding
