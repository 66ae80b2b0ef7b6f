// The artifact's golden vectors, judged by the limits that its own report was judged by.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "voice.hpp"

namespace gsv {

namespace {

constexpr size_t MOST_CASES = 64;

void out_of_range(const std::vector<int64_t>& ids, int64_t count) {
    for (int64_t one : ids)
        if (one < 0 || one >= count)
            throw Error(GSV_ARTIFACT, "golden vectors: " + std::to_string(one) + " is no id that the voice knows")
                .fix("build the artifact again");
}

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

// One metric over all cases: the worst one, or the mean.
struct Measured {
    std::string stage, metric;
    double value = 0;
    size_t n = 0;
};

class Measures {
public:
    void worst(const std::string& stage, const std::string& metric, double value, bool least = false) {
        Measured& one = at(stage, metric);
        bool takes = !one.n || (least ? value < one.value : value > one.value) || std::isnan(value);
        if (takes) one.value = value;
        ++one.n;
    }
    void mean(const std::string& stage, const std::string& metric, double value) {
        Measured& one = at(stage, metric);
        one.value += (value - one.value) / static_cast<double>(++one.n);
    }
    const std::vector<Measured>& all() const { return all_; }

private:
    Measured& at(const std::string& stage, const std::string& metric) {
        for (Measured& one : all_)
            if (one.stage == stage && one.metric == metric) return one;
        all_.push_back({stage, metric});
        return all_.back();
    }
    std::vector<Measured> all_;
};

struct Case {
    std::string stage, name;
    std::map<std::string, Array> inputs, outputs;
};

std::vector<Case> read_cases(const std::string& folder) {
    std::string where = folder + "/golden";
    std::vector<std::string> problems;
    std::vector<Case> found;
    try {
        Json index = read_json(inside(folder, "golden/golden.json"), LARGEST_JSON);
        if (!index.is_object() || !index.contains("cases") || !index["cases"].is_array() ||
            index["cases"].size() > MOST_CASES)
            throw Refused("is no index of golden vectors");
        for (const Json& row : index["cases"]) {
            if (!row.is_object()) throw Refused("holds a case that is none");
            Case one = {row.value("stage", ""), row.value("name", ""), {}, {}};
            for (const char* side : {"inputs", "outputs"}) {
                const Json& files = row.at(side);
                for (const auto& [port, file] : files.items()) {
                    if (port == "keys" || port == "values") continue;
                    auto& into = side[0] == 'i' ? one.inputs : one.outputs;
                    into[port] = read_array(inside(where, file.get<std::string>()));
                }
            }
            found.push_back(std::move(one));
        }
    } catch (const Refused& error) {
        problems.push_back(error.text);
    } catch (const Json::exception& error) {
        problems.push_back(error.what());
    }
    if (!problems.empty() || found.empty())
        throw Error(GSV_ARTIFACT, where + " holds no golden vectors that could be read")
            .problems(problems)
            .fix("build the artifact again");
    return found;
}

const Array& port(const Case& one, const std::map<std::string, Array>& side, const char* name, bool whole) {
    auto found = side.find(name);
    if (found == side.end() || found->second.whole != whole)
        throw Error(GSV_ARTIFACT,
                    "golden vectors: case " + one.name + " of " + one.stage + " has no " + name + " of its kind")
            .fix("build the artifact again");
    return found->second;
}

// What the report says of a metric beside the golden vectors.
struct Judged {
    bool known = false, limited = false, least = false;
    double value = 0, limit = 0;
};

std::vector<float> values(const Ort::Value& from) {
    size_t count = from.GetTensorTypeAndShapeInfo().GetElementCount();
    return std::vector<float>(from.GetTensorData<float>(), from.GetTensorData<float>() + count);
}

Judged judged(const Json& report, const Measured& one) {
    Judged found;
    for (const Json& check : report.value("checks", Json::array())) {
        if (!check.is_object() || check.value("stage", "") != one.stage || check.value("metric", "") != one.metric ||
            check.value("against", "") != "golden vectors" || !check.contains("value") || !check["value"].is_number())
            continue;
        found.known = true;
        found.value = check["value"];
        found.limited = check.contains("limit") && check["limit"].is_number();
        if (found.limited) found.limit = check["limit"];
        break;
    }
    found.least = one.metric == "snr_db" || one.metric == "top1";
    // What has no limit of its own may be hardly worse than the report says: it is the same artifact.
    if (found.known && !found.limited) found.limit = found.least ? found.value - 1 : 1.5 * found.value;
    return found;
}

}  // namespace

void Voice::verify(const Line& line) {
    Json report;
    try {
        report = read_json(inside(artifact_.folder, "report.json"), LARGEST_JSON);
    } catch (const Refused& error) {
        throw Error(GSV_ARTIFACT, artifact_.folder + "/report.json " + error.text).fix("unpack the artifact again");
    }
    if (!report.is_object() || !report.value("checks", Json()).is_array())
        throw Error(GSV_ARTIFACT, artifact_.folder + "/report.json is no report").fix("unpack the artifact again");
    Measures measures;
    for (const Case& one : read_cases(artifact_.folder)) {
        if (one.stage == "teacher") {
            const Array &phones = port(one, one.inputs, "phones", true),
                        &prompt = port(one, one.inputs, "prompt", true),
                        &tokens = port(one, one.inputs, "tokens", true), &bert = port(one, one.inputs, "bert", false),
                        &logits = port(one, one.outputs, "logits", false);
            size_t v = decoder_->codes(), count = tokens.ints.size();
            if (phones.ints.empty() || !count || logits.floats.size() != v * count ||
                bert.floats.size() != 1024 * phones.ints.size())
                throw Error(GSV_ARTIFACT, "golden vectors: case " + one.name + " of teacher has other sizes")
                    .fix("build the artifact again");
            out_of_range(phones.ints, artifact_.phones), out_of_range(prompt.ints, artifact_.codes_and_end);
            out_of_range(tokens.ints, artifact_.codes_and_end);
            std::vector<float> found;
            const float* now = decoder_->start(phones.ints, bert.floats.data(), prompt.ints, running_);
            for (size_t step = 0;; ++step) {
                const float* wanted = logits.floats.data() + step * v;
                found.insert(found.end(), now, now + v);
                measures.mean(step ? "step" : "prefill", "kl", kl_divergence(wanted, now, v));
                auto best = [&](const float* row) { return std::max_element(row, row + v) - row; };
                if (step) measures.mean("step", "top1", best(wanted) == best(now) ? 1 : 0);
                if (step + 1 == count) break;
                now = decoder_->step(tokens.ints[step], static_cast<int64_t>(prompt.ints.size() + step), running_);
            }
            measures.worst("prefill", "max_error", scaled_error(logits.floats.data(), found.data(), v));
            if (count > 1)
                measures.worst("step", "max_error",
                               scaled_error(logits.floats.data() + v, found.data() + v, v * (count - 1)));
        } else if (one.stage == "acoustic" || one.stage == "vocoder") {
            bool sounds = one.stage == "vocoder";
            std::vector<Feed> feeds;
            std::map<std::string, Array> inputs = one.inputs;
            for (const char* name : {"codes", "phones"})
                if (auto ids = inputs.find(name); ids != inputs.end())
                    out_of_range(ids->second.ints, name[0] == 'c' ? artifact_.codes : artifact_.text_phones);
            for (auto& [name, array] : inputs)
                feeds.push_back({name, array.whole ? ints(array.ints.data(), array.ints.size(), array.shape)
                                                   : floats(array.floats.data(), array.floats.size(), array.shape)});
            auto found = values((sounds ? vocoder_ : acoustic_)->run(std::move(feeds), running_)[0]);
            const auto& wanted = port(one, one.outputs, sounds ? "audio" : "latent", false).floats;
            if (found.size() != wanted.size())
                throw Error(GSV_BACKEND, "stage '" + one.stage + "' returned another size")
                    .fix("build the artifact again");
            measures.worst(one.stage, "max_error", scaled_error(wanted.data(), found.data(), wanted.size()));
            measures.worst(one.stage, "snr_db", snr_db(wanted, found), true);
        }
        if (cancelled_.load()) throw Error(GSV_CANCELLED, "cancelled");
    }
    std::vector<std::string> missed;
    for (const Measured& one : measures.all()) {
        Judged told = judged(report, one);
        char text[256];
        if (!told.known) {
            std::snprintf(text, sizeof text, "%-9s %-10s %12.6g  n %zu  not judged: the report does not tell",
                          one.stage.c_str(), one.metric.c_str(), one.value, one.n);
            line(text);
            continue;
        }
        bool passed = told.least ? one.value >= told.limit : one.value <= told.limit;
        std::snprintf(text, sizeof text, "%-9s %-10s %12.6g  %s %.6g  n %zu  report %.6g  %s", one.stage.c_str(),
                      one.metric.c_str(), one.value, told.least ? "at least" : "at most", told.limit, one.n, told.value,
                      passed ? "pass" : "FAIL");
        line(text);
        if (!passed) missed.push_back(text);
    }
    line("not run here: what compares sound as it is heard (gsvexport verify)");
    if (measures.all().size() < 9) missed.push_back("not every stage has golden vectors");
    if (!missed.empty())
        throw Error(GSV_GATE, artifact_.folder + " missed limits").problems(missed).fix("gsvexport verify tells more");
}

}  // namespace gsv
