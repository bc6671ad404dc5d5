// What the processor can do, where the compiler has no function for it.
#pragma once

// On 64-bit ARM, products of four bytes (FEAT_DotProd) and of pairs of bf16 numbers (FEAT_BF16). False elsewhere.
bool arm_has_dot_products();
bool arm_has_bf16();
