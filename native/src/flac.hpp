// Sound that was made ahead of time, read by libFLAC. A build without libFLAC speaks instead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gsv {

bool plays_flac();

// Mono samples of 16 bits at `rate`. GSV_INPUT where the bytes are none.
std::vector<int16_t> flac_samples(const unsigned char* data, size_t size, int32_t rate);

}  // namespace gsv
