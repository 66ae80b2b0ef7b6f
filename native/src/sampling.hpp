// How the next code is chosen; gsvexport/runtime/sampling.py, step by step.
#pragma once

#include <cstdint>
#include <vector>

#include "draws.hpp"

namespace gsv {

struct Sampling {
    int64_t top_k = 15;
    double top_p = 1.0, temperature = 1.0, repetition_penalty = 1.35;
    bool greedy = false;
};

class Chooser {
public:
    Chooser(size_t codes, const Sampling& sampling, Draws& draws)
        : sampling_(sampling), draws_(draws), seen_(codes), scores_(codes), weights_(codes), order_(codes) {}

    void saw(int64_t code) { seen_[static_cast<size_t>(code)] = 1; }  // less likely from now on

    struct Choice {
        int64_t code, best;
    };
    // From logits [V], which are left alone; `forbidden` is cut off, -1 nothing.
    Choice choose(const float* logits, int64_t forbidden);

private:
    void filter();

    Sampling sampling_;
    Draws& draws_;
    std::vector<char> seen_;
    std::vector<float> scores_;
    std::vector<double> weights_;
    std::vector<uint32_t> order_;
};

}  // namespace gsv
