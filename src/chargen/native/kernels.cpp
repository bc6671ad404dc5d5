// The C interface: the stamp that the loader checks, the choice of an instruction set, and the kernels.

#include "kernels.h"

#include <string>

// ------------------------------------------------------------------------------- the stamp

// The loader calls the first two functions on a library of any version, so their signatures never change.
EXPORT int64_t chargen_abi_version() { return ABI_VERSION; }

// Return the size of a struct in bytes; -1 for a name that this library does not know.
EXPORT int64_t chargen_struct_size(const char* name) {
    static const struct {
        const char* name;
        int64_t size;
    } SIZES[] = {
        {"Window", sizeof(Window)},
        {"Gradients", sizeof(Gradients)},
        {"Linear", sizeof(Linear)},
        {"LinearGradients", sizeof(LinearGradients)},
        {"Head", sizeof(Head)},
        {"HeadGradients", sizeof(HeadGradients)},
        {"PackedMatrix", sizeof(PackedMatrix)},
        {"Network", sizeof(Network)},
        {"Stream", sizeof(Stream)},
    };
    for (const auto& entry : SIZES)
        if (!strcmp(entry.name, name)) return entry.size;
    return -1;
}

// Return the names of the cells that have kernels, separated by spaces, in the order of their numbers.
EXPORT const char* chargen_cells() {
    static const std::string names = [] {
        std::string all;
        for (const char* name : CELL_NAMES) all += (all.empty() ? "" : " ") + std::string(name);
        return all;
    }();
    return names.c_str();
}

// Return the number of a cell; -1 for a cell without a kernel.
EXPORT int64_t chargen_cell_number(const char* name) {
    int64_t number = 0;
    for (const char* known : CELL_NAMES) {
        if (!strcmp(known, name)) return number;
        ++number;
    }
    return -1;
}

// ------------------------------------------------------------------------------- instruction sets

static const Kernels* const ALL[] = {
#if defined(__x86_64__)
    &avx512_bf16_kernels,
    &avx512_kernels,
    &avx2_kernels,
#elif defined(__aarch64__)
    &neon_bf16_kernels,
    &neon_dot_kernels,
#endif
    &portable_kernels,
};

static const Kernels* best() {
    for (const Kernels* kernels : ALL)
        if (kernels->supported()) return kernels;
    return nullptr;
}

static const Kernels* in_use = best();

// Switch to an instruction set by name, or to the best one if the name is null. A name that is unknown, or that this
// processor does not support, changes nothing. Return the name of the instruction set in use.
EXPORT const char* chargen_use(const char* name) {
    if (!name) in_use = best();
    for (const Kernels* kernels : ALL)
        if (name && !strcmp(kernels->name, name) && kernels->supported()) in_use = kernels;
    return in_use->name;
}

EXPORT const char* chargen_in_use() { return in_use->name; }

// Return the names that `chargen_use` accepts on this processor, separated by spaces, the best one first.
EXPORT const char* chargen_instruction_sets() {
    static const std::string names = [] {
        std::string all;
        for (const Kernels* kernels : ALL)
            if (kernels->supported()) all += (all.empty() ? "" : " ") + std::string(kernels->name);
        return all;
    }();
    return names.c_str();
}

// Return 1 if the instruction set in use has instructions for products in bf16, and 0 if it imitates them in float32.
EXPORT int64_t chargen_has_bf16() { return in_use->has_bf16; }

EXPORT void chargen_use_kernel_threads(int own) { use_kernel_threads(own != 0); }

// ------------------------------------------------------------------------------- training

// Return how many floats `saved` of a window needs; -1 for an unknown cell.
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

// Return how many floats `p` of a head needs.
EXPORT int64_t chargen_head_size(int64_t rows, int64_t V) { return in_use->head_size(rows, V); }

EXPORT int chargen_head_forward(const Head* head) { return in_use->head_forward(*head); }

EXPORT int chargen_head_backward(const Head* head, const HeadGradients* gradients) {
    return in_use->head_backward(*head, *gradients);
}

// ------------------------------------------------------------------------------- sampling

// Return the number of the instruction set in use, for `Network`.
EXPORT int64_t chargen_instruction_set_number() {
    int64_t number = 0;
    while (ALL[number] != in_use) ++number;
    return number;
}

EXPORT int64_t chargen_vector_width() { return in_use->vector_width; }

EXPORT int64_t chargen_panel() { return in_use->panel; }

// Return the kernels that a network was packed for, which may differ from those in use; null if this processor or this
// library does not have them.
static const Kernels* packed_for(const Network* net) {
    constexpr auto num_sets = int64_t(sizeof ALL / sizeof *ALL);
    if (net->instruction_set < 0 || net->instruction_set >= num_sets) return nullptr;
    const Kernels* kernels = ALL[net->instruction_set];
    return kernels->supported() ? kernels : nullptr;
}

// Read n ids on each of N streams.
//   ids: (N, n).
//   states: (L * states of the cell, N, H), read and updated.
//   logits: of the next character, (N, V) after the last id; if `every` is nonzero, (N, n, V) after each id. Null if
//     they are not wanted and `every` is zero.
EXPORT int chargen_read(const Network* net, int64_t N, int64_t n, const int64_t* ids, float* states, float* logits,
                        int64_t every, int64_t num_threads) {
    const Kernels* kernels = packed_for(net);
    if (!kernels) return BAD_INSTRUCTION_SET;
    return kernels->read_text(*net, N, n, ids, states, logits, every, num_threads);
}

// Write n ids on each of N streams.
EXPORT int chargen_write(const Network* net, const Stream* streams, int64_t N, int64_t n, int64_t num_threads) {
    const Kernels* kernels = packed_for(net);
    if (!kernels) return BAD_INSTRUCTION_SET;
    return kernels->write_text(*net, streams, N, n, num_threads);
}
