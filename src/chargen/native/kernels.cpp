// The plain C interface: the best instruction set of this processor, and threads.

#include "kernels.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>
#if !defined(_WIN32)
#include <dlfcn.h>
#endif

thread_local Scratch::Block Scratch::kept_[4];

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
