// What generated headers include; see cuda_runtime.h beside it.
#pragma once

#include "cuda_runtime.h"
