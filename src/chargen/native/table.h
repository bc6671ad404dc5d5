// All kernels of one instruction set, and the table of them that kernels.cpp calls.
#pragma once

#include "head.h"
#include "linear.h"
#include "sample.h"
#include "window.h"

// Define the table NAME_kernels. `supported` is a function of the file.
#define DEFINE_KERNELS(NAME, HAS_BF16)                                                                     \
    const Kernels NAME##_kernels{#NAME,         supported,      HAS_BF16,        saved_size, forward,      \
                                 backward,      linear_forward, linear_backward, head_size,  head_forward, \
                                 head_backward, VECTOR_WIDTH,   PANEL,           read_text,  write_text};
