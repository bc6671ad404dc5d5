// The threads of the kernels: torch's, or a pool of helper threads.

#include "threads.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#if !defined(_WIN32)
#include <unistd.h>
#endif
#if defined(__has_include)
#if __has_include(<dlfcn.h>)
#include <dlfcn.h>
#define HAS_DLSYM 1
#endif
#endif

namespace {

constexpr int SPINS = 8000;       // a few hundred microseconds, longer than the gap between two kernels
constexpr int SHORT_SPINS = 500;  // for threads that are computing

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Wait until done() is true. The thread that makes it true may need this processor.
template <class F>
void wait_until(F done) {
    for (int spins = 0; !done(); ++spins)
        if (spins > SHORT_SPINS)
            std::this_thread::yield();
        else
            pause();
}

// A pool of threads that help the calling thread.
//
// The caller runs every task that no helper has started, and then waits only for the tasks that are running. A helper
// that the operating system does not schedule therefore delays nothing.
class Helpers {
  public:
    void run(int64_t n, Task f, void* data) {
        const std::lock_guard<std::mutex> one_at_a_time(calling_);
        finish(start(n, n - 1, f, data));
    }

    // Run a task on the threads of a team: the caller, and the helpers that come within `PATIENCE`.
    void run_team(int64_t n, TeamTask f, void* data) {
        const std::lock_guard<std::mutex> one_at_a_time(calling_);
        struct Meeting {
            TeamTask f;
            void* data;
            Team team;
            std::atomic<int64_t> joined{1};
            std::atomic<bool> begun{false};
        } meeting;
        meeting.f = f, meeting.data = data;
        const auto join = [](void* shared, int64_t) {
            auto* m = static_cast<Meeting*>(shared);
            const int64_t i = m->joined.fetch_add(1, std::memory_order_acq_rel);
            if (i >= CLOSED) return;
            wait_until([&] { return m->begun.load(std::memory_order_acquire); });
            m->f(m->data, m->team, i);
        };
        const uint64_t number = start(n - 1, n - 1, join, &meeting);
        const auto end = std::chrono::steady_clock::now() + PATIENCE;
        while (meeting.joined.load(std::memory_order_relaxed) < n && std::chrono::steady_clock::now() < end) pause();
        meeting.team.set_size(meeting.joined.fetch_add(CLOSED, std::memory_order_acq_rel));
        meeting.begun.store(true, std::memory_order_release);
        f(data, meeting.team, 0);
        finish(number);
    }

  private:
    static constexpr int64_t CLOSED = int64_t(1) << 32;
    static constexpr std::chrono::microseconds PATIENCE{500};

    // Publish a job of n tasks for a number of helpers, and return its number.
    uint64_t start(int64_t n, int64_t num_helpers, Task f, void* data) {
        grow(num_helpers);
        f_ = f, data_ = data;
        // The number of the job and the count of its tasks share one word, so that a helper that arrives late cannot
        // take a task of the next job.
        const uint64_t number = (job_.load(std::memory_order_relaxed) >> 32) + 1;
        job_.store(number << 32 | uint64_t(n));
        if (asleep_.load() > 0) {  // a helper that falls asleep after this line checks the job once more
            const std::lock_guard<std::mutex> lock(sleeping_);
            wake_.notify_all();
        }
        return number;
    }

    // Run the tasks of a job that no helper has started, and wait for the others.
    void finish(uint64_t number) {
        while (take(number)) {
        }
        wait_until([&] { return running_.load(std::memory_order_acquire) == 0; });
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
std::atomic<bool> kernel_threads{false};

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

// The functions of torch's thread pool, null unless torch has loaded GNU OpenMP. Threads of that pool spin for a while
// after each of torch's operations, so helper threads beside them would compete for the processors. In a forked process
// GNU OpenMP would wait for the threads of the parent forever.
struct OpenMP {
    void (*run)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
    int (*num_threads)() = nullptr;
    int (*thread_number)() = nullptr;
    explicit operator bool() const { return run && num_threads && thread_number; }
};

#if HAS_DLSYM
template <class F>
void find(const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}
#endif

OpenMP torch_threads() {
#if HAS_DLSYM
    static const OpenMP found = [] {
        OpenMP functions;
        find("GOMP_parallel", functions.run);
        find("omp_get_num_threads", functions.num_threads);
        find("omp_get_thread_num", functions.thread_number);
        return functions;
    }();
    if (process_id() == loading_process && !kernel_threads) return found;
#endif
    return {};
}

}  // namespace

void use_kernel_threads(bool own) { kernel_threads = own; }

void in_parallel(int64_t n, Task f, void* data) {
    if (n == 1) return f(data, 0);
    const OpenMP torch = torch_threads();
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
    torch.run(run_tasks, &job, unsigned(n), 0);
}

void Team::wait() {
    if (size() == 1) return;
    const uint64_t round = rounds_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
        arrived_.store(0, std::memory_order_relaxed);
        rounds_.store(round + 1, std::memory_order_release);
        return;
    }
    wait_until([&] { return rounds_.load(std::memory_order_acquire) != round; });
}

void in_team(int64_t n, TeamTask f, void* data) {
    const OpenMP torch = n > 1 ? torch_threads() : OpenMP();
    if (n > 1 && !torch) return helpers().run_team(n, f, data);
    Team team;
    if (n == 1) return f(data, team, 0);
    struct Job {
        OpenMP torch;
        TeamTask f;
        void* data;
        Team* team;
    } job{torch, f, data, &team};
    const auto run_task = [](void* shared) {  // OpenMP may start fewer threads than requested
        auto* j = static_cast<Job*>(shared);
        j->team->set_size(j->torch.num_threads());
        j->f(j->data, *j->team, j->torch.thread_number());
    };
    torch.run(run_task, &job, unsigned(n), 0);
}
