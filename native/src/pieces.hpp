// Sound in pieces: gsvexport/runtime/windows.py and ahead.py, turned around so that codes and frames are pushed in.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "draws.hpp"

namespace gsv {

constexpr size_t FRAMES_PER_CODE = 2;

// Rows of channels, one frame after the other in each: [channels, frames].
struct Track {
    size_t channels = 0, frames = 0;
    std::vector<float> values;

    Track() = default;
    Track(size_t channels, size_t frames) : channels(channels), frames(frames), values(channels * frames) {}
    Track cut(size_t first, size_t last) const;
    void append(const Track& more);
};

// Noise by frame: a frame has the same in every window that holds it.
class Noise {
public:
    Noise(size_t channels, Draws& draws) : channels_(channels), draws_(draws) {}
    Track operator()(size_t start, size_t stop);  // what lies before `start` is forgotten

private:
    size_t channels_, first_ = 0;
    Draws& draws_;
    std::vector<float> held_;  // frame after frame
};

// Windows over a whole track: frames [start, stop) go in; of what comes out, [first, last) are kept.
struct Window {
    size_t start, stop, first, last;
};
std::vector<Window> windows(size_t frames, size_t keep, size_t left, size_t right);

// Vocoder windows over a latent that comes in parts. `sound` gets a window, the first frame of it that is kept, and
// where what is kept ends.
class Sliding {
public:
    using Sound = std::function<void(const Track&, size_t first, size_t last)>;
    Sliding(size_t left, size_t right, Sound sound) : left_(left), right_(right), sound_(std::move(sound)) {}
    void push(const Track& part, bool ends);

private:
    size_t left_, right_, first_ = 0;
    Sound sound_;
    Track held_;
};

// Latent windows over codes while they are written.
class Early {
public:
    using Latent = std::function<Track(const int64_t* codes, size_t count, size_t start)>;
    using Part = std::function<void(const Track&, bool ends)>;
    Early(size_t keep, size_t ahead, Latent latent, Part part);
    void push(int64_t code);
    void end();

private:
    void piece(size_t last, bool ends);

    size_t most_, ahead_, keep_, done_ = 0;
    Latent latent_;
    Part part_;
    std::vector<int64_t> written_;
    Track tail_;
};

}  // namespace gsv
