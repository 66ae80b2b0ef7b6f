#include "voice.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace gsv {

namespace {

constexpr int64_t EOS_SUPPRESSED_STEPS = 11;  // upstream cuts the end of the sentence off in steps 0 to 10
constexpr int64_t MOST_AHEAD = 1000;

std::string shown(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

void outside(std::vector<std::string>& problems, const char* name, double value, double low, double high) {
    if (!(low <= value && value <= high))
        problems.push_back(std::string(name) + " is " + shown(value) + "; it must be a number from " + shown(low) +
                           " to " + shown(high));
}

// Ids that a table with `count` rows does not have.
void out_of_range(std::vector<std::string>& problems, const char* port, const std::vector<int64_t>& ids,
                  int64_t count) {
    size_t wrong = 0, first = 0;
    for (size_t i = ids.size(); i-- > 0;)
        if (ids[i] < 0 || ids[i] >= count) {
            ++wrong;
            first = i;
        }
    if (wrong)
        problems.push_back(std::string(port) + ": " + std::to_string(ids[first]) + " at place " +
                           std::to_string(first) + " is out of range, and " + std::to_string(wrong - 1) +
                           " more; ids run from 0 to " + std::to_string(count - 1));
}

}  // namespace

std::vector<float> values(const Ort::Value& from) {
    const float* first = from.GetTensorData<float>();
    return std::vector<float>(first, first + from.GetTensorTypeAndShapeInfo().GetElementCount());
}

Voice::Voice(const std::string& folder, int threads, bool any_machine, bool sizes_only) {
    artifact_ = read_artifact(folder, any_machine, sizes_only);
    read_constants();
    env_ = Ort::Env(ORT_LOGGING_LEVEL_FATAL, "gsv");
    // One arena for all graphs, which run one after another. Where another voice of this process has made it, it is
    // there.
    try {
        env_.CreateAndRegisterAllocator(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault), nullptr);
    } catch (const Ort::Exception&) {
    }
    running_ = Ort::RunOptions();
    prefill_ = std::make_unique<Graph>(env_, artifact_, "prefill", threads);
    step_ = std::make_unique<Graph>(env_, artifact_, "step", threads);
    acoustic_ = std::make_unique<Graph>(env_, artifact_, "acoustic", threads);
    vocoder_ = std::make_unique<Graph>(env_, artifact_, "vocoder", threads);
    decoder_ = std::make_unique<Decoder>(*prefill_, *step_, artifact_);
    if ((acoustic_->takes("ge") && ge_.floats.empty()) || (acoustic_->takes("ge_text") && ge_text_.floats.empty()))
        throw Error(GSV_VOICE, artifact_.name + " cannot speak without the conditioning of a reference")
            .fix("export the voice with a [reference]");
}

// A constant's numbers; [1, ...] with `axes` axes.
Array Voice::constant(const std::string& name, bool whole, size_t axes) const {
    auto file = artifact_.baked.find(name);
    if (file == artifact_.baked.end()) return {};
    try {
        Array found = read_array(inside(artifact_.folder, file->second));
        if (found.whole != whole || found.shape.size() != axes || found.shape[0] != 1)
            throw Refused("is no array that the voice could use");
        for (float one : found.floats)
            if (!std::isfinite(one)) throw Refused("holds values that are NaN or infinite");
        return found;
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, artifact_.folder + ": stored constants cannot be used")
            .problems({file->second + " " + error.text})
            .fix("build it again");
    }
}

void Voice::read_constants() {
    prompt_ = constant("prompt", true, 2).ints;
    prompt_phones_ = constant("prompt_phones", true, 2).ints;
    prompt_bert_ = constant("prompt_bert", false, 3);
    ge_ = constant("ge", false, 3);
    ge_text_ = constant("ge_text", false, 3);
    std::vector<std::string> problems;
    out_of_range(problems, "prefill.prompt", prompt_, artifact_.eos);
    out_of_range(problems, "prefill.phones", prompt_phones_, artifact_.phones);
    if (!prompt_bert_.floats.empty() && prompt_bert_.floats.size() != BERT * prompt_phones_.size())
        problems.push_back("prompt_bert is not [1, 1024, the prompt's phones]");
    if (prompt_.size() >= static_cast<size_t>(artifact_.positions))
        problems.push_back("the prompt leaves no room for a single code");
    if (!problems.empty())
        throw Error(GSV_ARTIFACT, artifact_.folder + ": stored constants cannot be used")
            .problems(problems)
            .fix("build it again");
}

bool Voice::enter() {
    bool idle = false;
    if (!busy_.compare_exchange_strong(idle, true)) return false;
    cancelled_.store(false);
    running_.UnsetTerminate();
    return true;
}

void Voice::cancel() noexcept {
    if (!busy_.load()) return;
    cancelled_.store(true);
    try {
        running_.SetTerminate();
    } catch (...) {
    }
}

void Voice::check(const std::vector<int64_t>& phones, const Manner& manner) const {
    std::vector<std::string> problems;
    bool prompted = !manner.no_prompt && !prompt_.empty();
    size_t together = phones.size() + (prompted ? prompt_phones_.size() : 0);
    if (phones.empty()) throw Error(GSV_INPUT, "nothing to say").fix("give the sentence's phone ids");
    out_of_range(problems, "prefill.phones", phones, std::min(artifact_.phones, artifact_.text_phones));
    if (together > static_cast<size_t>(artifact_.positions))
        problems.push_back("the sentence is too long: " + std::to_string(phones.size()) + " phones after " +
                           std::to_string(together - phones.size()) + " of the prompt; at most " +
                           std::to_string(artifact_.positions) + " together");
    outside(problems, "speed", manner.speed, 0.25, 4);
    outside(problems, "noise_scale", manner.noise_scale, 0, 4);
    outside(problems, "top_k", static_cast<double>(manner.sampling.top_k), 1, 1e9);
    outside(problems, "top_p", manner.sampling.top_p, 0, 1);
    outside(problems, "temperature", manner.sampling.temperature, 0, 100);
    outside(problems, "repetition_penalty", manner.sampling.repetition_penalty, 0.01, 100);
    outside(problems, "max_tokens", static_cast<double>(manner.max_tokens), 1, 1e9);
    if (manner.window != 0) {
        outside(problems, "window", manner.window, 0.02, 60);
        outside(problems, "ahead", static_cast<double>(manner.ahead), 0, MOST_AHEAD);
        if (!artifact_.streams()) problems.push_back(artifact_.folder + " does not say how far its vocoder looks");
    }
    if (!problems.empty()) throw Error(GSV_INPUT, "this cannot be spoken").problems(problems);
}

// Every code as soon as it is known; whether the sentence ended by itself.
bool Voice::write(const std::vector<int64_t>& phones, const Manner& manner, Draws& draws, const OnCode& on_code) {
    bool prompted = !manner.no_prompt && !prompt_.empty();
    const std::vector<int64_t> prompt = prompted ? prompt_ : std::vector<int64_t>();
    std::vector<int64_t> all = prompted ? prompt_phones_ : std::vector<int64_t>();
    size_t before = all.size(), places = before + phones.size();
    all.insert(all.end(), phones.begin(), phones.end());
    std::vector<float> bert;
    if (manner.bert || (before && !prompt_bert_.floats.empty())) {
        bert.resize(BERT * places);
        for (size_t row = 0; row < BERT; ++row) {
            if (before && !prompt_bert_.floats.empty())
                std::copy_n(prompt_bert_.floats.data() + row * before, before, bert.data() + row * places);
            if (manner.bert)
                std::copy_n(manner.bert + row * phones.size(), phones.size(), bert.data() + row * places + before);
        }
    }
    Chooser chooser(decoder_->codes(), manner.sampling, draws);
    for (int64_t code : prompt) chooser.saw(code);
    const int64_t start = static_cast<int64_t>(prompt.size());
    const int64_t most = std::min<int64_t>(manner.max_tokens, artifact_.positions - start);
    const float* logits = decoder_->start(all, bert.empty() ? nullptr : bert.data(), prompt, running_);
    for (int64_t count = 0;;) {
        for (size_t i = 0; i < decoder_->codes(); ++i)
            if (!std::isfinite(logits[i]))
                throw Error(GSV_BACKEND, std::string("stage '") + (count ? "step" : "prefill") +
                                             "' returned logits that are NaN or infinite at step " +
                                             std::to_string(count))
                    .fix("verify the artifact on this machine");
        auto [code, best] = chooser.choose(logits, count < EOS_SUPPRESSED_STEPS ? artifact_.eos : -1);
        if (code == artifact_.eos || best == artifact_.eos) return true;
        chooser.saw(code);
        ++count;
        on_code(code);
        if (cancelled_.load()) throw Error(GSV_CANCELLED, "cancelled");
        if (count == most) return false;
        logits = decoder_->step(code, start + count - 1, running_);
    }
}

std::vector<Feed> Voice::conditioned(std::vector<Feed> feeds) {
    if (!ge_.floats.empty()) feeds.push_back({"ge", floats(ge_.floats.data(), ge_.floats.size(), ge_.shape)});
    if (!ge_text_.floats.empty())
        feeds.push_back({"ge_text", floats(ge_text_.floats.data(), ge_text_.floats.size(), ge_text_.shape)});
    return feeds;
}

Track Voice::latent(const int64_t* codes, size_t count, const std::vector<int64_t>& phones, Track noise, float scale) {
    for (size_t i = 0; i < count; ++i)
        if (codes[i] >= artifact_.codes)
            throw Error(GSV_BACKEND,
                        "T2S wrote code " + std::to_string(codes[i]) + ", which the codebook does not have")
                .limit(std::to_string(artifact_.codes - 1))
                .fix("verify the artifact");
    std::vector<Feed> feeds;
    feeds.push_back({"codes", ints(const_cast<int64_t*>(codes), count, {1, static_cast<int64_t>(count)})});
    feeds.push_back(
        {"phones", ints(const_cast<int64_t*>(phones.data()), phones.size(), {1, static_cast<int64_t>(phones.size())})});
    feeds.push_back({"noise", floats(noise.values.data(), noise.values.size(),
                                     {1, static_cast<int64_t>(noise.channels), static_cast<int64_t>(noise.frames)})});
    feeds.push_back({"noise_scale", floats(&scale, 1, {})});
    auto found = acoustic_->run(conditioned(std::move(feeds)), running_);
    auto shape = found[0].GetTensorTypeAndShapeInfo().GetShape();
    if (shape.size() != 3 || shape[1] < 1 || shape[2] < 1)
        throw Error(GSV_BACKEND, "stage 'acoustic' returned no latent").fix("build the artifact again");
    Track result(static_cast<size_t>(shape[1]), static_cast<size_t>(shape[2]));
    std::copy_n(found[0].GetTensorData<float>(), result.values.size(), result.values.data());
    return result;
}

std::vector<float> Voice::sound(const Track& latent) {
    std::vector<Feed> feeds;
    feeds.push_back(
        {"latent", floats(const_cast<float*>(latent.values.data()), latent.values.size(),
                          {1, static_cast<int64_t>(latent.channels), static_cast<int64_t>(latent.frames)})});
    auto samples = values(vocoder_->run(conditioned(std::move(feeds)), running_)[0]);
    auto broken = std::count_if(samples.begin(), samples.end(), [](float one) { return !std::isfinite(one); });
    if (broken)
        throw Error(GSV_BACKEND, artifact_.name + ": " + std::to_string(broken) + " of " +
                                     std::to_string(samples.size()) + " samples are NaN or infinite")
            .fix("verify the artifact on this machine");
    return samples;
}

std::vector<int64_t> Voice::tokens(const std::vector<int64_t>& phones, const Manner& manner) {
    check(phones, manner);
    Draws draws(manner.seed, manner.sentence);
    std::vector<int64_t> codes;
    write(phones, manner, draws, [&](int64_t code) { codes.push_back(code); });
    return codes;
}

gsv_said Voice::say(const std::vector<int64_t>& phones, const Manner& manner, const Sink& sink) {
    auto began = std::chrono::steady_clock::now();
    auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); };
    check(phones, manner);
    Draws draws(manner.seed, manner.sentence);
    gsv_said told = {};
    const size_t hop = static_cast<size_t>(artifact_.hop), channels = static_cast<size_t>(artifact_.channels);
    auto hand_on = [&](const std::vector<float>& samples, size_t first, size_t last) {
        last = std::min(last, samples.size());
        if (first >= last) return;
        if (!told.samples) told.first_sound = passed();
        told.samples += last - first;
        if (cancelled_.load() || !sink(samples.data() + first, last - first)) throw Error(GSV_CANCELLED, "cancelled");
    };
    auto nothing = [&] {
        return Error(GSV_BACKEND, artifact_.name + ": the voice ended the sentence before its first code")
            .fix("verify the artifact; try another seed");
    };
    size_t keep = static_cast<size_t>(
        std::max(1.0, std::nearbyint(manner.window * artifact_.rate / static_cast<double>(artifact_.hop))));
    size_t left = artifact_.streams() ? static_cast<size_t>(artifact_.context[0]) : 0;
    size_t right = artifact_.streams() ? static_cast<size_t>(artifact_.context[1]) : 0;

    if (manner.window != 0 && manner.ahead != 0 && manner.speed == 1) {
        Noise noise(channels, draws);
        Sliding sliding(left, right, [&](const Track& window, size_t first, size_t last) {
            hand_on(sound(window), first * hop, last == window.frames ? SIZE_MAX : last * hop);
        });
        Early early(
            std::max<size_t>(1, keep / FRAMES_PER_CODE), static_cast<size_t>(manner.ahead),
            [&](const int64_t* codes, size_t count, size_t start) {
                size_t first = FRAMES_PER_CODE * start;
                return latent(codes, count, phones, noise(first, first + FRAMES_PER_CODE * count), manner.noise_scale);
            },
            [&](const Track& part, bool ends) { sliding.push(part, ends); });
        told.ended = write(phones, manner, draws, [&](int64_t code) {
            ++told.codes;
            early.push(code);
        });
        if (!told.codes) throw nothing();
        early.end();
        told.seconds = passed();
        return told;
    }

    std::vector<int64_t> codes;
    told.ended = write(phones, manner, draws, [&](int64_t code) { codes.push_back(code); });
    told.codes = codes.size();
    if (codes.empty()) throw nothing();
    size_t full = FRAMES_PER_CODE * codes.size();
    size_t frames = manner.speed == 1 ? full : static_cast<size_t>(static_cast<double>(full) / manner.speed) + 1;
    Track noise(channels, frames);
    draws.normal(noise.values.data(), channels, frames, frames);
    Track whole = latent(codes.data(), codes.size(), phones, std::move(noise), manner.noise_scale);
    if (manner.window == 0) keep = whole.frames;
    for (const Window& one : windows(whole.frames, keep, left, right)) {
        bool last = one.last == whole.frames;
        hand_on(sound(whole.cut(one.start, one.stop)), (one.first - one.start) * hop,
                last ? SIZE_MAX : (one.last - one.start) * hop);
    }
    told.seconds = passed();
    return told;
}

}  // namespace gsv
