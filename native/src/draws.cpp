#include "draws.hpp"

#include <cmath>

namespace gsv {

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]) {
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], first = key[0], second = key[1];
    for (int round = 0; round < 10; ++round) {
        uint64_t even = 0xD2511F53ull * a, odd = 0xCD9E8D57ull * c;
        a = static_cast<uint32_t>(odd >> 32) ^ b ^ first;
        b = static_cast<uint32_t>(odd);
        c = static_cast<uint32_t>(even >> 32) ^ d ^ second;
        d = static_cast<uint32_t>(even);
        first += 0x9E3779B9u;
        second += 0xBB67AE85u;
    }
    words[0] = a;
    words[1] = b;
    words[2] = c;
    words[3] = d;
}

double Draws::uniform() {
    const uint32_t counter[4] = {static_cast<uint32_t>(codes_++), 0, sentence_, attempt_};
    uint32_t words[4];
    philox(counter, key_, words);
    return static_cast<double>(static_cast<uint64_t>(words[0]) << 21 | words[1] >> 11) * 0x1p-53;
}

void Draws::normal(float* out, size_t channels, size_t frames, size_t stride) {
    constexpr double TURN = 2.0 * 3.141592653589793 * 0x1p-32;
    for (size_t frame = 0; frame < frames; ++frame)
        for (size_t channel = 0; channel < channels; ++channel) {
            uint64_t number = normals_++;
            if (number / 4 != held_) {
                held_ = number / 4;
                const uint32_t counter[4] = {static_cast<uint32_t>(held_), 1, sentence_, attempt_};
                uint32_t words[4];
                philox(counter, key_, words);
                for (int pair = 0; pair < 4; pair += 2) {
                    double radius = std::sqrt(-2.0 * std::log((words[pair] + 1.0) * 0x1p-32));
                    double angle = words[pair + 1] * TURN;
                    block_[pair] = radius * std::cos(angle);
                    block_[pair + 1] = radius * std::sin(angle);
                }
            }
            out[channel * stride + frame] = static_cast<float>(block_[number % 4]);
        }
}

}  // namespace gsv
