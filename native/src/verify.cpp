// The artifact's golden vectors, judged by the limits that its own report was judged by.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "golden.hpp"
#include "voice.hpp"

namespace gsv {

namespace {

double scaled_error(const float* wanted, const float* found, size_t count) {
    double error = 0, peak = 1;
    for (size_t i = 0; i < count; ++i) {
        if (!std::isfinite(found[i])) return NAN;
        error = std::max(error, std::fabs(static_cast<double>(wanted[i]) - found[i]));
        peak = std::max(peak, std::fabs(static_cast<double>(wanted[i])));
    }
    return error / peak;
}

double snr_db(const std::vector<float>& wanted, const std::vector<float>& found) {
    double signal = 0, noise = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
        double difference = static_cast<double>(wanted[i]) - found[i];
        signal += static_cast<double>(wanted[i]) * wanted[i];
        noise += difference * difference;
    }
    if (noise == 0) return 200;
    return signal == 0 ? -200 : std::clamp(10 * (std::log10(signal) - std::log10(noise)), -200.0, 199.0);
}

// KL(softmax(wanted) || softmax(found)) of one row.
double kl_divergence(const float* wanted, const float* found, size_t count) {
    auto logarithm = [&](const float* row) {
        double peak = *std::max_element(row, row + count), sum = 0;
        for (size_t i = 0; i < count; ++i) sum += std::exp(row[i] - peak);
        return peak + std::log(sum);
    };
    double r = logarithm(wanted), x = logarithm(found), sum = 0;
    for (size_t i = 0; i < count; ++i) sum += std::exp(wanted[i] - r) * ((wanted[i] - r) - (found[i] - x));
    return sum;
}

// One metric of one stage over all cases.
struct Measured {
    double value = 0;
    size_t n = 0;

    void worst(double one, bool least = false) {
        if (!n++ || std::isnan(one) || (least ? one < value : one > value)) value = one;
    }
    void mean(double one) { value += (one - value) / static_cast<double>(++n); }
};

Error wrong_case(const Case& one, const std::string& what) {
    return Error(GSV_ARTIFACT, "golden vectors: case " + one.name + " of " + one.stage + " has " + what)
        .fix("build the artifact again");
}

// Whole numbers below `most`, or real ones where `most` is 0.
const Array& port(const Case& one, const char* name, int64_t most) {
    auto found = one.arrays.find(name);
    if (found == one.arrays.end() || found->second.whole != (most > 0))
        throw wrong_case(one, std::string("no ") + name + " of its kind");
    for (int64_t id : found->second.ints)
        if (id < 0 || id >= most) throw wrong_case(one, std::to_string(id) + " in " + name + ", no id of this voice");
    return found->second;
}

// The check of the report that measured the same; null where there is none.
const Json& judged(const Json& report, const std::string& stage, const std::string& metric) {
    static const Json nothing;
    for (const Json& check : report["checks"])
        if (at(check, "stage") == stage && at(check, "metric") == metric && at(check, "against") == "golden vectors" &&
            at(check, "value").is_number())
            return check;
    return nothing;
}

}  // namespace

void Voice::verify(const Line& line) {
    const Json report = read_report(artifact_.folder);
    std::map<std::pair<std::string, std::string>, Measured> measures;
    for (Case& one : read_cases(artifact_.folder)) {
        if (one.stage == "teacher") {
            const Array &phones = port(one, "phones", artifact_.phones),
                        &prompt = port(one, "prompt", artifact_.codes_and_end),
                        &tokens = port(one, "tokens", artifact_.codes_and_end), &bert = port(one, "bert", 0),
                        &logits = port(one, "logits", 0);
            size_t v = decoder_->codes(), count = tokens.ints.size();
            if (phones.ints.empty() || !count || logits.floats.size() != v * count ||
                bert.floats.size() != BERT * phones.ints.size())
                throw wrong_case(one, "arrays of other sizes");
            std::vector<float> found;
            const float* now = decoder_->start(phones.ints, bert.floats.data(), prompt.ints, running_);
            for (size_t step = 0;; ++step) {
                const float* wanted = logits.floats.data() + step * v;
                found.insert(found.end(), now, now + v);
                measures[{step ? "step" : "prefill", "kl"}].mean(kl_divergence(wanted, now, v));
                auto best = [&](const float* row) { return std::max_element(row, row + v) - row; };
                if (step) measures[{"step", "top1"}].mean(best(wanted) == best(now) ? 1 : 0);
                if (step + 1 == count) break;
                now = decoder_->step(tokens.ints[step], static_cast<int64_t>(prompt.ints.size() + step), running_);
            }
            measures[{"prefill", "max_error"}].worst(scaled_error(logits.floats.data(), found.data(), v));
            if (count > 1)
                measures[{"step", "max_error"}].worst(
                    scaled_error(logits.floats.data() + v, found.data() + v, v * (count - 1)));
        } else if (one.stage == "acoustic" || one.stage == "vocoder") {
            bool sounds = one.stage == "vocoder";
            if (!sounds) port(one, "codes", artifact_.codes), port(one, "phones", artifact_.text_phones);
            std::vector<Feed> feeds;
            for (auto& [name, array] : one.arrays)
                feeds.push_back({name, array.whole ? ints(array.ints.data(), array.ints.size(), array.shape)
                                                   : floats(array.floats.data(), array.floats.size(), array.shape)});
            auto found = values((sounds ? vocoder_ : acoustic_)->run(std::move(feeds), running_)[0]);
            const auto& wanted = port(one, sounds ? "audio" : "latent", 0).floats;
            if (found.size() != wanted.size())
                throw Error(GSV_BACKEND, "stage '" + one.stage + "' returned another size")
                    .fix("build the artifact again");
            measures[{one.stage, "max_error"}].worst(scaled_error(wanted.data(), found.data(), wanted.size()));
            measures[{one.stage, "snr_db"}].worst(snr_db(wanted, found), true);
        }
        if (cancelled_.load()) throw Error(GSV_CANCELLED, "cancelled");
    }
    std::vector<std::string> missed;
    for (const auto& [name, one] : measures) {
        const auto& [stage, metric] = name;
        char text[256];
        int length = std::snprintf(text, sizeof text, "%-9s %-10s %12.6g  n %zu  ", stage.c_str(), metric.c_str(),
                                   one.value, one.n);
        const Json& check = judged(report, stage, metric);
        bool passed = true;
        if (check.is_null()) {
            std::snprintf(text + length, sizeof text - length, "not judged: the report does not tell");
        } else {
            bool least = metric == "snr_db" || metric == "top1";
            double told = check["value"], limit = least ? told - 1 : 1.5 * told;
            // What has no limit of its own may be hardly worse than the report says: it is the same artifact.
            if (at(check, "limit").is_number()) limit = check["limit"];
            passed = least ? one.value >= limit : one.value <= limit;
            std::snprintf(text + length, sizeof text - length, "%s %.6g  report %.6g  %s",
                          least ? "at least" : "at most", limit, told, passed ? "pass" : "FAIL");
        }
        line(text);
        if (!passed) missed.push_back(text);
    }
    line("not run here: what compares sound as it is heard (gsvexport verify)");
    if (measures.size() < 9) missed.push_back("not every stage has golden vectors");
    if (!missed.empty())
        throw Error(GSV_GATE, artifact_.folder + " missed limits").problems(missed).fix("gsvexport verify tells more");
}

}  // namespace gsv
