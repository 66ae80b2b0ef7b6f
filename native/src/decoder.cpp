#include "decoder.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace gsv {

constexpr size_t SPARE = 256;  // places beyond a prefill: 10 s of speech

Decoder::Decoder(Graph& prefill, Graph& step, const Artifact& artifact)
    : prefill_(prefill), step_(step), logits_(static_cast<size_t>(artifact.codes_and_end)) {
    auto place = [&](const std::string& name) {
        const auto& outputs = prefill_.outputs();
        return static_cast<size_t>(std::find(outputs.begin(), outputs.end(), name) - outputs.begin());
    };
    bool known = step_.takes("token") && step_.takes("position") && step_.takes("cached");
    for (const std::string& name : step_.inputs())
        if (name.rfind("keys_", 0) == 0 || name.rfind("values_", 0) == 0) cache_.push_back({name, {}});
    for (const Layer& one : cache_) outputs_.push_back(place("new_" + one.name));
    logits_output_ = place("logits");
    const std::vector<int64_t> shape =
        cache_.empty() ? std::vector<int64_t>() : prefill_.shape("new_" + cache_[0].name);
    known = known && cache_.size() == 2 * static_cast<size_t>(artifact.layers) && shape.size() == 4 && shape[1] > 0 &&
            shape[3] > 0 && shape[1] * shape[3] == artifact.width &&
            *std::max_element(outputs_.begin(), outputs_.end()) < prefill_.outputs().size() &&
            logits_output_ < prefill_.outputs().size();
    if (!known)
        throw Error(GSV_VOICE, artifact.folder + ": prefill and step have a form that this runtime does not know")
            .limit("a cache for each layer that step writes in place (keys_0, values_0, ... and cached)")
            .fix("build the artifact again with this release, or use gsvexport's Python runtime");
    heads_ = static_cast<size_t>(shape[1]);
    head_width_ = static_cast<size_t>(shape[3]);
}

const float* Decoder::start(const std::vector<int64_t>& phones, const float* bert, const std::vector<int64_t>& prompt,
                            const Ort::RunOptions& options) {
    int64_t x = static_cast<int64_t>(phones.size()), y = static_cast<int64_t>(prompt.size());
    if (!bert) silence_.assign(BERT * phones.size(), 0.0f);
    std::vector<Feed> feeds;
    feeds.push_back({"phones", ints(const_cast<int64_t*>(phones.data()), phones.size(), {1, x})});
    feeds.push_back({"bert", floats(bert ? const_cast<float*>(bert) : silence_.data(), BERT * phones.size(),
                                    {1, static_cast<int64_t>(BERT), x})});
    feeds.push_back({"prompt", ints(const_cast<int64_t*>(prompt.data()), prompt.size(), {1, y})});
    std::vector<Ort::Value> found = prefill_.run(std::move(feeds), options);
    size_t places = phones.size() + prompt.size(), row = places * head_width_;
    if (found[logits_output_].GetTensorTypeAndShapeInfo().GetElementCount() != logits_.size())
        throw Error(GSV_BACKEND, "stage 'prefill' returned logits of another size").fix("build the artifact again");
    cached_ = 0;  // nothing of the sentence before is kept when the cache grows
    make_room(places + 1);
    for (size_t i = 0; i < cache_.size(); ++i) {
        if (found[outputs_[i]].GetTensorTypeAndShapeInfo().GetElementCount() != heads_ * row)
            throw Error(GSV_BACKEND, "stage 'prefill' returned a cache of another size")
                .fix("build the artifact again");
        const float* rows = found[outputs_[i]].GetTensorData<float>();
        for (size_t head = 0; head < heads_; ++head)
            std::memcpy(cache_[i].rows.get() + head * capacity_ * head_width_, rows + head * row, row * sizeof(float));
    }
    cached_ = static_cast<int32_t>(places);
    std::memcpy(logits_.data(), found[logits_output_].GetTensorData<float>(), logits_.size() * sizeof(float));
    return logits_.data();
}

const float* Decoder::step(int64_t token, int64_t position, const Ort::RunOptions& options) {
    make_room(static_cast<size_t>(cached_) + 1);
    token_ = token;
    position_ = position;
    step_.run(binding_, options);
    ++cached_;
    return logits_.data();
}

// A cache twice as long where this one is full. It stays for the sentences that follow: memory does not come and go.
void Decoder::make_room(size_t places) {
    if (places <= capacity_) return;
    size_t wider = places + std::max(places, SPARE), held = static_cast<size_t>(cached_) * head_width_;
    size_t count = heads_ * wider * head_width_;
    binding_ = Ort::IoBinding(step_.session());
    for (Layer& one : cache_) {  // one after the other, so that little is held twice
        // calloc, because pages of it that no code has reached yet then take no memory.
        decltype(one.rows) rows(static_cast<float*>(std::calloc(count, sizeof(float))));
        if (!rows) throw std::bad_alloc();
        for (size_t head = 0; head < heads_ && held; ++head)
            std::memcpy(rows.get() + head * wider * head_width_, one.rows.get() + head * capacity_ * head_width_,
                        held * sizeof(float));
        one.rows.swap(rows);
    }
    capacity_ = wider;
    auto here = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
    const int64_t one[] = {1, 1};
    const std::vector<int64_t> shape = {1, static_cast<int64_t>(heads_), static_cast<int64_t>(capacity_),
                                        static_cast<int64_t>(head_width_)};
    binding_.BindInput("token", Ort::Value::CreateTensor<int64_t>(here, &token_, 1, one, 2));
    binding_.BindInput("position", Ort::Value::CreateTensor<int64_t>(here, &position_, 1, one, 1));
    binding_.BindInput("cached", Ort::Value::CreateTensor<int32_t>(here, &cached_, 1, one, 1));
    binding_.BindOutput("logits", floats(logits_.data(), logits_.size(), {1, static_cast<int64_t>(logits_.size())}));
    for (Layer& layer : cache_) {
        binding_.BindInput(layer.name.c_str(), floats(layer.rows.get(), count, shape));
        binding_.BindOutput(("new_" + layer.name).c_str(), floats(layer.rows.get(), count, shape));
    }
}

}  // namespace gsv
