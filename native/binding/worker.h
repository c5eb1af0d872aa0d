// Work off the main thread, as a promise.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>
#include <new>
#include <utility>

#include "convert.h"
#include "status.h"

namespace moepp::binding {

// Returns the status of `work`, or of its exception: only node-addon-api's own exceptions may reach
// Node.
template <class Work>
Status status_of(const Work& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Status::error(Code::kOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return Status::error(Code::kDevice, error.what());
  }
}

// Resolves to the result of `finish`, or rejects with the error of the status. Also called while an
// environment is torn down, when no JavaScript can run and no one listens.
template <class Finish>
void settle_promise(Napi::Env env, const Napi::Promise::Deferred& deferred, const Finish& finish,
                    const Status& status) {
  try {
    const Napi::Value value = finish(env, status);
    if (status.ok()) {
      deferred.Resolve(value);
    } else {
      deferred.Reject(to_error(env, status).Value());
    }
  } catch (const Napi::Error&) {
  }
}

// Runs `work` on a thread of libuv's pool, then settles the promise on the main thread. It resolves
// to the result of `finish`, or rejects with the error of the status. `finish` runs on the main
// thread in both cases.
class PromiseWorker : public Napi::AsyncWorker {
 public:
  using Work = std::function<Status()>;
  using Finish = std::function<Napi::Value(Napi::Env env, const Status& status)>;

  static Napi::Promise start(Napi::Env env, Work work, Finish finish) {
    auto* worker = new PromiseWorker(env, std::move(work), std::move(finish));  // deletes itself
    Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 private:
  PromiseWorker(Napi::Env env, Work work, Finish finish)
      : AsyncWorker(env),
        work_(std::move(work)),
        finish_(std::move(finish)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  void Execute() override { status_ = status_of(work_); }

  void OnOK() override { settle_promise(Env(), deferred_, finish_, status_); }

  Work work_;
  Finish finish_;
  Napi::Promise::Deferred deferred_;
  Status status_;
};

}  // namespace moepp::binding
