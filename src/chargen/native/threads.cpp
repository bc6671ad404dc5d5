// The threads of the kernels: torch's, or a pool of helper threads.

#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#if !defined(_WIN32)
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace {

// A pool of threads that help the calling thread.
//
// The caller runs every task that no helper has started, and then waits only for the tasks that are running. A helper
// that the operating system does not schedule therefore delays nothing.
class Helpers {
  public:
    void run(int64_t n, Task f, void* data) {
        const std::lock_guard<std::mutex> one_at_a_time(calling_);
        grow(n - 1);
        f_ = f, data_ = data;
        // The number of the job and the count of its tasks share one word, so that a helper that arrives late cannot
        // take a task of the next job.
        const uint64_t number = (job_.load(std::memory_order_relaxed) >> 32) + 1;
        job_.store(number << 32 | uint64_t(n));
        if (asleep_.load() > 0) {  // a helper that falls asleep after this line checks the job once more
            const std::lock_guard<std::mutex> lock(sleeping_);
            wake_.notify_all();
        }
        while (take(number)) {
        }
        for (int spins = 0; running_.load(std::memory_order_acquire) > 0; ++spins)
            if (spins > SPINS)
                std::this_thread::yield();  // a helper may need this processor to finish
            else
                pause();
    }

  private:
    static constexpr int SPINS = 8000;  // a few hundred microseconds, longer than the gap between two kernels

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    // Run one task of job `number`. Return false if none is left. Tasks are counted down in the low half of the word.
    bool take(uint64_t number) {
        uint64_t seen = job_.load(std::memory_order_acquire);
        for (;;) {
            const uint64_t left = seen & 0xffffffff;
            if (seen >> 32 != number || left == 0) return false;
            running_.fetch_add(1, std::memory_order_acq_rel);
            if (job_.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) {
                f_(data_, int64_t(left) - 1);
                running_.fetch_sub(1, std::memory_order_release);
                return true;
            }
            running_.fetch_sub(1, std::memory_order_release);
        }
    }

    void grow(int64_t helpers) {
        for (; num_helpers_ < helpers; ++num_helpers_) std::thread([this] { help(); }).detach();
    }

    void help() {
        uint64_t done = 0;  // the number of the last job seen
        for (;;) {
            uint64_t number = job_.load(std::memory_order_acquire) >> 32;
            for (int spins = 0; number == done && spins < SPINS; ++spins) {
                pause();
                number = job_.load(std::memory_order_acquire) >> 32;
            }
            if (number == done) {
                std::unique_lock<std::mutex> lock(sleeping_);
                asleep_.fetch_add(1);
                wake_.wait(lock, [&] { return job_.load() >> 32 != done; });
                asleep_.fetch_sub(1);
                continue;
            }
            done = number;
            while (take(number)) {
            }
        }
    }

    std::mutex calling_, sleeping_;
    std::condition_variable wake_;
    int64_t num_helpers_ = 0;
    Task f_ = nullptr;
    void* data_ = nullptr;
    std::atomic<uint64_t> job_{0};
    std::atomic<int64_t> running_{0}, asleep_{0};
};

long process_id() {
#if defined(_WIN32)
    return 1;
#else
    return long(getpid());
#endif
}

const long loading_process = process_id();

// The pool of this process. It is never destroyed, because its threads run until the process ends. A forked process
// inherits the pool but not its threads, so it makes a new pool.
Helpers& helpers() {
    static Helpers* pool = nullptr;
    static long owner = 0;
    static std::mutex creating;
    const std::lock_guard<std::mutex> lock(creating);
    const long process = process_id();
    if (owner != process) pool = new Helpers, owner = process;
    return *pool;
}

// The entry point of torch's thread pool if torch has loaded GNU OpenMP. Threads of that pool spin for a while after
// each of torch's operations, so helper threads beside them would compete for the processors. In a forked process GNU
// OpenMP would wait for the threads of the parent forever.
using OpenMP = void (*)(void (*)(void*), void*, unsigned, unsigned);

OpenMP torch_threads() {
#if defined(_WIN32)
    return nullptr;
#else
    if (process_id() != loading_process) return nullptr;
    static const auto found = reinterpret_cast<OpenMP>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
#endif
}

std::atomic<bool> kernel_threads{false};
}  // namespace

void use_kernel_threads(bool own) { kernel_threads = own; }

void in_parallel(int64_t n, Task f, void* data) {
    if (n == 1) return f(data, 0);
    const OpenMP torch = kernel_threads ? nullptr : torch_threads();
    if (!torch) return helpers().run(n, f, data);
    struct Job {
        int64_t n;
        Task f;
        void* data;
        std::atomic<int64_t> next{0};
    } job{n, f, data};
    const auto run_tasks = [](void* shared) {  // OpenMP may start fewer threads than requested
        auto* j = static_cast<Job*>(shared);
        for (int64_t i; (i = j->next.fetch_add(1)) < j->n;) j->f(j->data, i);
    };
    torch(run_tasks, &job, unsigned(n), 0);
}
