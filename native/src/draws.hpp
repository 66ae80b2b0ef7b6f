// The random numbers of docs/seeds.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gsv {

class Draws {
public:
    explicit Draws(uint64_t seed, uint32_t sentence = 0, uint32_t attempt = 0)
        : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
          sentence_(sentence),
          attempt_(attempt) {}

    double uniform();  // for the next code, in [0, 1)
    // The next frames of noise, drawn frame by frame, into rows of channels: out[c * stride + f].
    void normal(float* out, size_t channels, size_t frames, size_t stride);

private:
    uint32_t key_[2], sentence_, attempt_;
    uint64_t codes_ = 0, normals_ = 0;
    double block_[4] = {};  // the four numbers of the last block of noise
    uint64_t held_ = UINT64_MAX;
};

// One block: four words for a counter and a key.
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]);

}  // namespace gsv
