// Running the parts of a kernel on several threads.
#pragma once

#include <atomic>
#include <cstdint>

using Task = void (*)(void* data, int64_t i);

// Call f(data, i) for i = 0 .. n-1, on up to n threads. Return when all calls have returned.
void in_parallel(int64_t n, Task f, void* data);

template <class F>
void in_parallel(int64_t n, F f) {
    in_parallel(n, [](void* data, int64_t i) { (*static_cast<F*>(data))(i); }, &f);
}

// Threads that compute one thing together and wait for each other.
class Team {
  public:
    int64_t size() const { return size_.load(std::memory_order_relaxed); }
    void set_size(int64_t size) { size_.store(size, std::memory_order_relaxed); }

    // Return when every thread of the team has called this function as often as the caller.
    void wait();

  private:
    std::atomic<int64_t> size_{1}, arrived_{0};
    std::atomic<uint64_t> rounds_{0};
};

using TeamTask = void (*)(void* data, Team& team, int64_t i);

// Call f(data, team, i) for i = 0 .. team.size() - 1, each on a thread of its own. The team has up to n threads: as many
// as are there at once. Return when all calls have returned.
void in_team(int64_t n, TeamTask f, void* data);

template <class F>
void in_team(int64_t n, F f) {
    in_team(n, [](void* data, Team& team, int64_t i) { (*static_cast<F*>(data))(team, i); }, &f);
}

// Return how many of `num_threads` threads to use for a number of products of two numbers: one if they take less time than
// waking another thread.
inline int64_t threads_for(int64_t products, int64_t num_threads) {
    return products < int64_t(1) << 22 ? 1 : num_threads;
}

// Use threads of the kernels' own instead of torch's.
void use_kernel_threads(bool own);
