#include "sampling.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace gsv {

constexpr float GONE = -std::numeric_limits<float>::infinity();
constexpr double COLDEST = 1e-5;  // upstream's floor for the temperature

Chooser::Choice Chooser::choose(const float* logits, int64_t forbidden) {
    size_t count = scores_.size();
    const float penalty = static_cast<float>(sampling_.repetition_penalty);
    for (size_t i = 0; i < count; ++i) {
        float score = static_cast<int64_t>(i) == forbidden ? GONE : logits[i];
        scores_[i] = !seen_[i] ? score : score < 0 ? score * penalty : score / penalty;
    }
    auto best = std::max_element(scores_.begin(), scores_.end()) - scores_.begin();
    if (sampling_.greedy) return {best, best};
    filter();
    const float largest = *std::max_element(scores_.begin(), scores_.end());
    double sum = 0;
    size_t last = 0;
    for (size_t i = 0; i < count; ++i) {
        if (scores_[i] == GONE) continue;
        sum += std::exp(static_cast<double>(scores_[i]) - static_cast<double>(largest));
        weights_[i] = sum;
        last = i;
    }
    const double limit = draws_.uniform() * sum;
    for (size_t i = 0; i < last; ++i)
        if (scores_[i] != GONE && weights_[i] > limit) return {static_cast<int64_t>(i), best};
    return {static_cast<int64_t>(last), best};
}

void Chooser::filter() {
    size_t count = scores_.size();
    if (sampling_.top_p < 1) {
        std::iota(order_.begin(), order_.end(), 0u);
        std::stable_sort(order_.begin(), order_.end(), [&](uint32_t a, uint32_t b) { return scores_[a] > scores_[b]; });
        const double largest = scores_[order_[0]];
        double sum = 0;
        for (size_t i = 0; i < count; ++i) {
            sum += std::exp(static_cast<double>(scores_[order_[i]]) - largest);
            weights_[i] = sum;
        }
        const double limit = sampling_.top_p * sum;
        for (size_t i = 1; i < count; ++i)  // the code that crosses the limit goes too; the first one never
            if (weights_[i] > limit) scores_[order_[i]] = GONE;
    }
    const float temperature = static_cast<float>(std::max(sampling_.temperature, COLDEST));
    for (float& score : scores_) score /= temperature;
    if (sampling_.top_k < static_cast<int64_t>(count)) {
        std::vector<float> sorted(scores_);
        auto place = sorted.begin() + sampling_.top_k - 1;
        std::nth_element(sorted.begin(), place, sorted.end(), std::greater<float>());
        const float limit = *place;
        for (float& score : scores_)
            if (score < limit) score = GONE;
    }
}

}  // namespace gsv
