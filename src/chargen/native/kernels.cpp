// The plain C interface: the best instruction set of this processor, and threads.

#include "kernels.h"

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>
#if !defined(_WIN32)
#include <dlfcn.h>
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
struct Work {
    int64_t n;
    Share f;
    void* data;
    std::atomic<int64_t> next{0};
};

// Takes shares until none is left, so that all get done however many threads there turn out to be.
void take_shares(void* work) {
    auto* w = static_cast<Work*>(work);
    for (int64_t i; (i = w->next.fetch_add(1)) < w->n;) w->f(w->data, i);
}

using OpenMP = void (*)(void (*)(void*), void*, unsigned, unsigned);

// torch's own threads, where it has loaded them as GNU OpenMP: they spin for a while after each of its
// operations, and threads beside them would have to share a core with that.
OpenMP torch_threads() {
#if defined(_WIN32)
    return nullptr;
#else
    static const auto found = reinterpret_cast<OpenMP>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
#endif
}
}  // namespace

void in_parallel(int64_t n, Share f, void* data) {
    Work work{n, f, data};
    if (n == 1) {
        take_shares(&work);
    } else if (OpenMP run = torch_threads()) {
        run(take_shares, &work, unsigned(n), 0);
    } else {
        std::vector<std::thread> others;
        for (int64_t i = 1; i < n; ++i) others.emplace_back(take_shares, &work);
        take_shares(&work);
        for (auto& other : others) other.join();
    }
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
