// T2S: prefill, then one step for each code, on one cache that both graphs' ports are bound to.
#pragma once

#include <cstdlib>
#include <memory>

#include "graph.hpp"

namespace gsv {

constexpr size_t BERT = 1024;  // width of the features of a text

class Decoder {
public:
    Decoder(Graph& prefill, Graph& step, const Artifact& artifact);

    // Starts a sentence: phones [X], bert [1024, X] or none, prompt [Y]. Returns logits [V], valid until the next call.
    const float* start(const std::vector<int64_t>& phones, const float* bert, const std::vector<int64_t>& prompt,
                       const Ort::RunOptions& options);
    // Appends a code at its position in the audio stream.
    const float* step(int64_t token, int64_t position, const Ort::RunOptions& options);

    size_t codes() const { return logits_.size(); }

private:
    struct Free {
        void operator()(float* rows) const { std::free(rows); }
    };
    struct Layer {
        std::string name;  // "keys_3"
        std::unique_ptr<float[], Free> rows;
    };
    void make_room(size_t places);

    Graph &prefill_, &step_;
    size_t heads_ = 0, head_width_ = 0, capacity_ = 0;
    std::vector<Layer> cache_;
    std::vector<size_t> outputs_;  // the output of prefill that fills each of `cache_`
    size_t logits_output_ = 0;
    std::vector<float> logits_, silence_;
    int64_t token_ = 0, position_ = 0;
    int32_t cached_ = 0;
    Ort::IoBinding binding_{nullptr};
};

}  // namespace gsv
