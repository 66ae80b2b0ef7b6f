// A voice that can speak: what gsv.h promises, in C++.
#pragma once

#include <atomic>
#include <chrono>

#include "decoder.hpp"
#include "pieces.hpp"

namespace gsv {

struct Manner {
    uint64_t seed = 0;
    uint32_t sentence = 0;
    Sampling sampling;
    float noise_scale = 0.5f;
    double speed = 1, window = 0;
    int64_t max_tokens = 1500, ahead = 8;
    bool no_prompt = false;
    const float* bert = nullptr;
};

// The numbers of a graph's output.
std::vector<float> values(const Ort::Value& from);

class Voice {
public:
    using Sink = std::function<bool(const float*, size_t)>;  // false: no more
    using Line = std::function<void(const std::string&)>;

    Voice(const std::string& folder, int threads, bool any_machine, bool sizes_only);

    const Artifact& artifact() const { return artifact_; }
    bool prompted() const { return !prompt_.empty(); }

    gsv_said say(const std::vector<int64_t>& phones, const Manner& manner, const Sink& sink);
    std::vector<int64_t> tokens(const std::vector<int64_t>& phones, const Manner& manner);
    void verify(const Line& line);

    // One call at a time: what a call does first. False where another one is running.
    bool enter();
    void leave() { busy_.store(false); }
    void cancel() noexcept;

private:
    using OnCode = std::function<void(int64_t)>;

    void check(const std::vector<int64_t>& phones, const Manner& manner) const;
    bool write(const std::vector<int64_t>& phones, const Manner& manner, Draws& draws, const OnCode& on_code);
    Track latent(const int64_t* codes, size_t count, const std::vector<int64_t>& phones, Track noise, float scale);
    std::vector<float> sound(const Track& latent);
    void read_constants();
    Array constant(const std::string& name, bool whole, size_t axes) const;
    std::vector<Feed> conditioned(std::vector<Feed> feeds);

    Artifact artifact_;
    Ort::Env env_{nullptr};
    Ort::RunOptions running_{nullptr};
    std::unique_ptr<Graph> prefill_, step_, acoustic_, vocoder_;
    std::unique_ptr<Decoder> decoder_;
    std::vector<int64_t> prompt_, prompt_phones_;
    Array prompt_bert_, ge_, ge_text_;
    std::atomic<bool> busy_{false}, cancelled_{false};
};

}  // namespace gsv
