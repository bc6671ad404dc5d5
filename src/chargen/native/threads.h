// Running the parts of a kernel on several threads.
#pragma once

#include <cstdint>

using Task = void (*)(void* data, int64_t i);

// Call f(data, i) for i = 0 .. n-1, on up to n threads. Return when all calls have returned.
void in_parallel(int64_t n, Task f, void* data);

template <class F>
void in_parallel(int64_t n, F f) {
    in_parallel(n, [](void* data, int64_t i) { (*static_cast<F*>(data))(i); }, &f);
}

// Use threads of the kernels' own instead of torch's.
void use_kernel_threads(bool own);
