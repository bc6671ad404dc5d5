// The plain C interface: the best instruction set of this processor, and threads.

#include "kernels.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#if !defined(_WIN32)
#include <dlfcn.h>
#include <unistd.h>
#endif

// ------------------------------------------------------------------------------- memory

struct Scratch::Block {
    char* start = nullptr;
    size_t bytes = 0;
    bool taken = false;
    ~Block() { free(start); }
};

thread_local Scratch::Block Scratch::kept_[4];

// Takes the smallest block that is large enough, or else makes the largest one larger.
Scratch::Scratch(int64_t floats) {
    const size_t bytes = sizeof(float) * size_t(floats) + 64;
    for (Block& block : kept_) {
        if (block.taken) continue;
        const bool fits = block.bytes >= bytes, best_fits = block_ && block_->bytes >= bytes;
        if (!block_ || (best_fits ? fits && block.bytes < block_->bytes : block.bytes > block_->bytes)) block_ = &block;
    }
    if (block_ && block_->bytes < bytes) {
        free(block_->start);
        block_->start = static_cast<char*>(malloc(bytes));
        block_->bytes = block_->start ? bytes : 0;
    }
    if (block_) block_->taken = true;
}

Scratch::~Scratch() {
    if (block_) block_->taken = false;
}

Scratch::operator bool() const { return block_ && block_->start; }

float* Scratch::get() const {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(block_->start) + 63) & ~uintptr_t{63});
}

// ------------------------------------------------------------------------------- threads

namespace {

// Threads that help the one that asks, if they get a processor. It takes whatever shares they have not taken, and
// then waits for none but those under way: a helper that another process keeps from running is not missed.
class Helpers {
  public:
    void run(int64_t n, Share f, void* data) {
        const std::lock_guard<std::mutex> one_at_a_time(asking_);
        grow(n - 1);
        f_ = f, data_ = data;
        // The number of the work and its shares are one word: a helper that comes late takes none of the next work's.
        const uint64_t number = (work_.load(std::memory_order_relaxed) >> 32) + 1;
        work_.store(number << 32 | uint64_t(n));
        if (asleep_.load() > 0) {  // one that falls asleep only now looks at the work once more
            const std::lock_guard<std::mutex> lock(sleeping_);
            wake_.notify_all();
        }
        while (take(number)) {
        }
        for (int spins = 0; under_way_.load(std::memory_order_acquire) > 0; ++spins)
            if (spins > SPINS)
                std::this_thread::yield();  // the processor is free for the helper that is missing
            else
                pause();
    }

  private:
    static constexpr int SPINS = 8000;  // some hundred microseconds: from one kernel of an update to the next

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    // Takes a share of that work, does it, and says whether there was one. Shares are counted down in the low half.
    bool take(uint64_t number) {
        uint64_t seen = work_.load(std::memory_order_acquire);
        for (;;) {
            const uint64_t left = seen & 0xffffffff;
            if (seen >> 32 != number || left == 0) return false;
            under_way_.fetch_add(1, std::memory_order_acq_rel);
            if (work_.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel)) {
                f_(data_, int64_t(left) - 1);
                under_way_.fetch_sub(1, std::memory_order_release);
                return true;
            }
            under_way_.fetch_sub(1, std::memory_order_release);
        }
    }

    void grow(int64_t helpers) {
        for (; num_helpers_ < helpers; ++num_helpers_) std::thread([this] { help(); }).detach();
    }

    void help() {
        uint64_t done = 0;  // the number of the last work seen
        for (;;) {
            uint64_t number = work_.load(std::memory_order_acquire) >> 32;
            for (int spins = 0; number == done && spins < SPINS; ++spins) {
                pause();
                number = work_.load(std::memory_order_acquire) >> 32;
            }
            if (number == done) {
                std::unique_lock<std::mutex> lock(sleeping_);
                asleep_.fetch_add(1);
                wake_.wait(lock, [&] { return work_.load() >> 32 != done; });
                asleep_.fetch_sub(1);
                continue;
            }
            done = number;
            while (take(number)) {
            }
        }
    }

    std::mutex asking_, sleeping_;
    std::condition_variable wake_;
    int64_t num_helpers_ = 0;
    Share f_ = nullptr;
    void* data_ = nullptr;
    std::atomic<uint64_t> work_{0};
    std::atomic<int64_t> under_way_{0}, asleep_{0};
};

// Never destroyed, for its threads end with the process; made anew in a process that was forked, where they are not.
Helpers& helpers() {
    static Helpers* made = nullptr;
    static long made_by = 0;
    static std::mutex making;
    const std::lock_guard<std::mutex> lock(making);
#if defined(_WIN32)
    const long here = 1;
#else
    const long here = long(getpid());
#endif
    if (made_by != here) made = new Helpers, made_by = here;
    return *made;
}
}  // namespace

// torch's own threads, where it has loaded them as GNU OpenMP: while it uses them they spin for a while after each
// of its operations, and helpers beside them would have to share the processors with that.
using OpenMP = void (*)(void (*)(void*), void*, unsigned, unsigned);

static OpenMP torch_threads() {
#if defined(_WIN32)
    return nullptr;
#else
    static const auto found = reinterpret_cast<OpenMP>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
#endif
}

static std::atomic<bool> own_threads{false};

EXPORT void chargen_own_threads(int own) { own_threads = own != 0; }

void in_parallel(int64_t n, Share f, void* data) {
    const OpenMP torch = own_threads ? nullptr : torch_threads();
    if (n == 1) return f(data, 0);
    if (!torch) return helpers().run(n, f, data);
    struct Work {
        int64_t n;
        Share f;
        void* data;
        std::atomic<int64_t> next{0};
    } work{n, f, data};
    const auto take_shares = [](void* shared) {  // until none is left, however many threads there turn out to be
        auto* w = static_cast<Work*>(shared);
        for (int64_t i; (i = w->next.fetch_add(1)) < w->n;) w->f(w->data, i);
    };
    torch(take_shares, &work, unsigned(n), 0);
}

// ------------------------------------------------------------------------------- instruction sets

static const Kernels* const ALL[] = {
#if defined(__x86_64__)
    &avx512_kernels,
    &avx2_kernels,
#endif
    &portable_kernels,
};

static const Kernels* best() {
    for (const Kernels* kernels : ALL)
        if (kernels->supported()) return kernels;
    return nullptr;
}

static const Kernels* in_use = best();

// Changes to an instruction set by name, or to the best for null; what it does not know or have changes nothing.
EXPORT const char* chargen_use(const char* name) {
    if (!name) in_use = best();
    for (const Kernels* kernels : ALL)
        if (name && !strcmp(kernels->name, name) && kernels->supported()) in_use = kernels;
    return in_use->name;
}

EXPORT const char* chargen_using() { return in_use->name; }

// The names that `chargen_use` takes here, with spaces between them, the best first.
EXPORT const char* chargen_instruction_sets() {
    static const std::string names = [] {
        std::string all;
        for (const Kernels* kernels : ALL)
            if (kernels->supported()) all += (all.empty() ? "" : " ") + std::string(kernels->name);
        return all;
    }();
    return names.c_str();
}

EXPORT int64_t chargen_saved_size(int64_t cell, int64_t T, int64_t B, int64_t H, int64_t keep) {
    return in_use->saved_size(cell, T, B, H, keep);
}

EXPORT int chargen_forward(const Window* window) { return in_use->forward(*window); }

EXPORT int chargen_backward(const Window* window, const Gradients* gradients) {
    return in_use->backward(*window, *gradients);
}

EXPORT int chargen_linear_forward(const Linear* linear) { return in_use->linear_forward(*linear); }

EXPORT int chargen_linear_backward(const Linear* linear, const LinearGradients* gradients) {
    return in_use->linear_backward(*linear, *gradients);
}

EXPORT int64_t chargen_head_size(int64_t rows, int64_t V) { return in_use->head_size(rows, V); }

EXPORT int chargen_head_forward(const Head* head) { return in_use->head_forward(*head); }

EXPORT int chargen_head_backward(const Head* head, const HeadGradients* gradients) {
    return in_use->head_backward(*head, *gradients);
}

EXPORT int64_t chargen_lanes() { return in_use->lanes; }

EXPORT int64_t chargen_panel() { return in_use->panel; }

// Those that a network was packed for, which need not be those in use now.
static const Kernels* packed_for(const Network* net) {
    for (const Kernels* kernels : ALL)
        if (kernels->lanes == net->lanes) return kernels;
    return nullptr;
}

EXPORT int chargen_read(const Network* net, int64_t N, int64_t n, const int64_t* ids, float* states, float* logits,
                        int64_t threads) {
    return packed_for(net)->read_text(*net, N, n, ids, states, logits, threads);
}

EXPORT int chargen_write(const Network* net, const Choosing* choice, int64_t N, int64_t n, const double* uniforms,
                         int64_t* ids, float* states, float* logits, int64_t threads) {
    return packed_for(net)->write_text(*net, *choice, N, n, uniforms, ids, states, logits, threads);
}
