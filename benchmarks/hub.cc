// The benchmarks' hub: it speaks ../protos/arbprov/_proto/hub.proto and is never the bottleneck.
//
//   hub ADDRESS HOLD ACTION PAYLOAD ACCOUNT SEED
//
// HOLD is how many seconds a poll is held while there is no task; 0 answers at once. Orders come
// on stdin, each is answered by one line on stdout:
//
//   run N             N tasks as fast as they are asked for
//   paced N FROM TO   N tasks, each FROM to TO seconds after the last result
//   release           answer all polls at once from now on, so that providers can stop
//
// What is wrong with a result is counted, since the hub started.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <iostream>
#include <list>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "hub.grpc.pb.h"

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

static const char* const kToken = "sample-token";

static double Seconds(Time from, Time to) {
  return std::chrono::duration<double>(to - from).count();
}

static Clock::duration Span(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

struct Order {
  std::string action, payload, account;
};

struct Wrong {
  long repeated = 0, unknown = 0, failed = 0, empty = 0;
};

// What a batch of tasks has come to.
struct Batch {
  long tasks = 0, done = 0;
  Time first, last;
  std::vector<double> pickups, round_trips;
};

struct Poll {
  grpc::CallbackServerContext* context;
  Task* answer;
  grpc::ServerUnaryReactor* reactor;
  Time until;
};

class BenchHub final : public Hub::CallbackService {
 public:
  BenchHub(Order order, double hold) : order_(std::move(order)), hold_(hold) {
    std::thread([this] { AnswerOverdue(); }).detach();
  }

  grpc::ServerUnaryReactor* GetTask(grpc::CallbackServerContext* context,
                                    const ProviderRequest* request, Task* answer) override {
    auto* reactor = context->DefaultReactor();
    if (request->auth_token() != kToken) {
      reactor->Finish({grpc::StatusCode::UNAUTHENTICATED, "the token is wrong"});
      return reactor;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++polls_;
      if (!there_.empty()) {
        HandOut(answer);
      } else if (hold_ > 0 && !released_) {
        held_.push_back({context, answer, reactor, Clock::now() + Span(hold_)});
        return reactor;
      }
    }
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* SubmitTaskResult(grpc::CallbackServerContext* context,
                                             const TaskResult* result, Task*) override {
    auto* reactor = context->DefaultReactor();
    if (result->auth_token() != kToken) {
      reactor->Finish({grpc::StatusCode::UNAUTHENTICATED, "the token is wrong"});
      return reactor;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      Take(*result);
    }
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  void Run(long tasks) {
    std::unique_lock<std::mutex> lock(mutex_);
    Begin(tasks);
    for (long number = 0; number < tasks; ++number) there_.push_back(Clock::now());
    AnswerHeld();
    Wait(lock, tasks);
    Report();
  }

  void RunPaced(long tasks, double from, double to, std::mt19937& random) {
    std::uniform_real_distribution<double> pause(from, to);
    std::unique_lock<std::mutex> lock(mutex_);
    Begin(tasks);
    for (long number = 0; number < tasks; ++number) {
      lock.unlock();
      std::this_thread::sleep_for(Span(pause(random)));
      lock.lock();
      there_.push_back(Clock::now());
      AnswerHeld();
      Wait(lock, number + 1);
    }
    Report();
  }

  void Release() {
    std::lock_guard<std::mutex> lock(mutex_);
    released_ = true;
    for (auto& poll : held_) poll.reactor->Finish(grpc::Status::OK);
    held_.clear();
    Report();
  }

 private:
  struct Handed {
    Time there, handed;
  };

  void Begin(long tasks) {
    batch_ = Batch();
    batch_.tasks = tasks;
    polls_ = 0;
  }

  // The first task that is there becomes the answer.
  void HandOut(Task* answer) {
    const Time now = Clock::now(), there = there_.front();
    there_.pop_front();
    if (batch_.pickups.empty()) batch_.first = now;
    batch_.pickups.push_back(Seconds(there, now));
    const std::string id = std::to_string(next_++);
    open_[id] = {there, now};
    answer->set_id(id);
    answer->set_action(order_.action);
    answer->set_payload(order_.payload);
    answer->set_account(order_.account);
  }

  void AnswerHeld() {
    while (!there_.empty() && !held_.empty()) {
      Poll poll = held_.front();
      held_.pop_front();
      // To whom has gone away, no task must be given.
      if (!poll.context->IsCancelled()) HandOut(poll.answer);
      poll.reactor->Finish(grpc::Status::OK);
    }
  }

  void AnswerOverdue() {
    for (;;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::lock_guard<std::mutex> lock(mutex_);
      const Time now = Clock::now();
      while (!held_.empty() && held_.front().until <= now) {
        held_.front().reactor->Finish(grpc::Status::OK);
        held_.pop_front();
      }
    }
  }

  void Take(const TaskResult& result) {
    const auto found = open_.find(result.id());
    if (found == open_.end()) {
      ++(closed_.count(result.id()) ? wrong_.repeated : wrong_.unknown);
      return;
    }
    wrong_.failed += result.status() != "success";
    wrong_.empty += result.result().empty();
    batch_.last = Clock::now();
    batch_.round_trips.push_back(Seconds(found->second.there, batch_.last));
    closed_.insert(result.id());
    open_.erase(found);
    if (++batch_.done == batch_.tasks || there_.empty()) changed_.notify_all();
  }

  void Wait(std::unique_lock<std::mutex>& lock, long done) {
    changed_.wait(lock, [&] { return batch_.done >= done; });
  }

  void Report() const {
    const double seconds = batch_.done ? Seconds(batch_.first, batch_.last) : 0;
    std::printf("{\"tasks\": %ld, \"seconds\": %.6f, \"polls\": %ld, ", batch_.done, seconds, polls_);
    std::printf("\"wrong\": {\"repeated\": %ld, \"unknown\": %ld, \"failed\": %ld, \"empty\": %ld}, ",
                wrong_.repeated, wrong_.unknown, wrong_.failed, wrong_.empty);
    PrintTimes("pickups", batch_.pickups);
    std::printf(", ");
    PrintTimes("round_trips", batch_.round_trips);
    std::printf("}\n");
    std::fflush(stdout);
  }

  // In full where there are few, since they matter there.
  static void PrintTimes(const char* name, const std::vector<double>& times) {
    std::printf("\"%s\": [", name);
    for (size_t at = 0; times.size() <= 1000 && at < times.size(); ++at)
      std::printf("%s%.6f", at ? ", " : "", times[at]);
    std::printf("]");
  }

  const Order order_;
  const double hold_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Time> there_;
  std::list<Poll> held_;
  std::unordered_map<std::string, Handed> open_;
  std::unordered_set<std::string> closed_;
  Batch batch_;
  Wrong wrong_;
  long next_ = 0, polls_ = 0;
  bool released_ = false;
};

int main(int count, char** arguments) {
  if (count != 7) {
    std::fprintf(stderr, "usage: hub ADDRESS HOLD ACTION PAYLOAD ACCOUNT SEED\n");
    return 2;
  }
  BenchHub hub({arguments[3], arguments[4], arguments[5]}, std::stod(arguments[2]));
  std::mt19937 random(std::stoul(arguments[6]));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(arguments[1], grpc::InsecureServerCredentials());
  builder.RegisterService(&hub);
  auto server = builder.BuildAndStart();
  if (!server) return 1;
  std::puts("ready");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string order;
    long tasks = 0;
    double from = 0, to = 0;
    words >> order >> tasks >> from >> to;
    if (order == "run") hub.Run(tasks);
    if (order == "paced") hub.RunPaced(tasks, from, to, random);
    if (order == "release") hub.Release();
  }
  std::_Exit(0);
}
