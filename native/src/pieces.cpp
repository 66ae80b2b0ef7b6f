#include "pieces.hpp"

#include <algorithm>
#include <cstring>

namespace gsv {

constexpr size_t BEHIND = 50;  // codes before a window's own that it looks at, too
constexpr size_t BLEND = 4;    // frames over which two windows are blended
constexpr size_t FIRST = 5;    // codes of the first piece

Track Track::cut(size_t first, size_t last) const {
    Track found(channels, last - first);
    for (size_t c = 0; c < channels; ++c)
        std::copy_n(values.data() + c * frames + first, found.frames, found.values.data() + c * found.frames);
    return found;
}

void Track::append(const Track& more) {
    if (!frames) {
        *this = more;
        return;
    }
    Track both(channels, frames + more.frames);
    for (size_t c = 0; c < channels; ++c) {
        std::copy_n(values.data() + c * frames, frames, both.values.data() + c * both.frames);
        std::copy_n(more.values.data() + c * more.frames, more.frames, both.values.data() + c * both.frames + frames);
    }
    *this = std::move(both);
}

Track Noise::operator()(size_t start, size_t stop) {
    size_t held = held_.size() / channels_;
    if (stop > first_ + held) {
        held_.resize((stop - first_) * channels_);
        for (; first_ + held < stop; ++held) draws_.normal(held_.data() + held * channels_, channels_, 1, 1);
    }
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>((start - first_) * channels_));
    first_ = start;
    Track found(channels_, stop - start);
    for (size_t f = 0; f < found.frames; ++f)
        for (size_t c = 0; c < channels_; ++c) found.values[c * found.frames + f] = held_[f * channels_ + c];
    return found;
}

std::vector<Window> windows(size_t frames, size_t keep, size_t left, size_t right) {
    std::vector<Window> found;
    for (size_t first = 0; first < frames; first += keep) {
        size_t last = std::min(first + keep, frames);
        found.push_back({first - std::min(first, left), std::min(frames, last + right), first, last});
    }
    return found;
}

void Sliding::push(const Track& part, bool ends) {
    held_.append(part);
    size_t ready = held_.frames - std::min(held_.frames, right_);
    if (ends) {
        sound_(held_, first_, held_.frames);
    } else if (ready > first_) {
        sound_(held_, first_, ready);
        size_t gone = ready - std::min(ready, left_);
        held_ = held_.cut(gone, held_.frames);
        first_ = ready - gone;
    }
}

Early::Early(size_t keep, size_t ahead, Latent latent, Part part)
    : most_(keep), ahead_(ahead), keep_(std::min(FIRST, keep)), latent_(std::move(latent)), part_(std::move(part)) {}

void Early::push(int64_t code) {
    written_.push_back(code);
    if (written_.size() < done_ + keep_ + ahead_) return;
    piece(done_ + keep_, false);
    keep_ = std::min(2 * keep_, most_);
}

void Early::end() {
    if (!written_.empty()) piece(written_.size(), true);
}

void Early::piece(size_t last, bool ends) {
    size_t start = done_ - std::min(done_, BEHIND);
    Track found = latent_(written_.data() + start, written_.size() - start, start);
    size_t low = FRAMES_PER_CODE * (done_ - start), high = FRAMES_PER_CODE * (last - start);
    Track kept = found.cut(low, high);
    size_t count = std::min(tail_.frames, kept.frames);
    for (size_t f = 0; f < count; ++f) {
        float share = static_cast<float>(f + 1) / static_cast<float>(count + 1);
        for (size_t c = 0; c < kept.channels; ++c) {
            float& value = kept.values[c * kept.frames + f];
            value = tail_.values[c * tail_.frames + f] * (1 - share) + value * share;
        }
    }
    tail_ = found.cut(high, std::min(found.frames, high + BLEND));
    done_ = last;
    part_(kept, ends);
}

}  // namespace gsv
