// A group of ranks as a JavaScript class, and the thread on which its ranks wait for each other.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/group.h"
#include "worker.h"

namespace moepp::binding {

// One rank's group, and a thread of its own. Ranks wait for each other for as long as a server has
// nothing to do, and libuv's pool has four threads for all. Jobs run one after another.
class GroupThread {
 public:
  explicit GroupThread(std::unique_ptr<parallel::Communicator> communicator, int64_t deadline_ms);
  ~GroupThread();

  parallel::Group& group() { return group_; }
  // Runs `work` on the thread, then settles the promise as PromiseWorker does. On the main thread.
  Napi::Promise start(Napi::Env env, PromiseWorker::Work work, PromiseWorker::Finish finish);
  // In a job's work: runs `news` on the main thread while the work goes on, before the promise
  // settles. `news` must not throw.
  void tell(std::function<void(Napi::Env)> news);
  // Ends the job in flight and the thread; jobs behind it never run. On the main thread.
  void stop(const std::string& reason);

 private:
  struct Job;
  void run();

  parallel::Group group_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job*> jobs_;   // each deletes itself, on the main thread
  Job* running_ = nullptr;  // of the thread
  bool stopped_ = false;
  std::thread thread_;
};

class GroupObject : public Napi::ObjectWrap<GroupObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit GroupObject(const Napi::CallbackInfo& info);
  const std::shared_ptr<GroupThread>& thread() const { return thread_; }

 private:
  Napi::Value rank(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value exchange(const Napi::CallbackInfo& info);
  void abort(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value info(const Napi::CallbackInfo& info);

  std::shared_ptr<GroupThread> thread_;
};

// An array of one Uint8Array for each rank.
std::vector<parallel::Message> to_messages(const Napi::Value& value, int ranks);
Napi::Array to_arrays(Napi::Env env, const std::vector<parallel::Message>& messages);

// The group that JavaScript gives, or null.
std::shared_ptr<GroupThread> to_group(const Napi::Value& value);
std::shared_ptr<parallel::Group> group_of(const std::shared_ptr<GroupThread>& thread);

// openGroup({ kind, library, deadlineMs }) -> Group
Napi::Value open_group(const Napi::CallbackInfo& info);
// localGroups(size, deadlineMs) -> Group[]
Napi::Value local_groups(const Napi::CallbackInfo& info);
// At the end of an environment: its groups end.
void end_groups(Napi::Env env);

}  // namespace moepp::binding
