// The border to C: no exception crosses it, and every structure is read by the size that it says it has.
#include "gsv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "pack.hpp"
#include "symbols.hpp"
#include "unpack.hpp"
#include "voice.hpp"

struct gsv_voice : gsv::Voice {
    using Voice::Voice;
};

struct gsv_pack : gsv::Pack {
    using Pack::Pack;
};

namespace {

gsv_status told(gsv_status status, const char* text, char* error, size_t size) {
    if (error && size) {
        size_t length = std::min(std::strlen(text), size - 1);
        while (length && (text[length] & 0xC0) == 0x80 && text[length]) --length;  // no half of a character
        std::memcpy(error, text, length);
        error[length] = 0;
    }
    return status;
}

template <typename Work>
gsv_status guarded(char* error, size_t size, Work work) noexcept {
    try {
        work();
        return told(GSV_OK, "", error, size);
    } catch (const gsv::Error& one) {
        return told(one.status, one.what(), error, size);
    } catch (const gsv::Refused& one) {
        return told(GSV_ARTIFACT, one.what(), error, size);
    } catch (const std::bad_alloc&) {
        return told(GSV_ENVIRONMENT, "there is not enough memory\n  fix:   speak shorter sentences", error, size);
    } catch (const Ort::Exception& one) {
        return told(gsv::no_memory(one.what()) ? GSV_ENVIRONMENT : GSV_BACKEND, one.what(), error, size);
    } catch (const std::exception& one) {
        return told(GSV_DEFECT, one.what(), error, size);
    } catch (...) {
        return told(GSV_DEFECT, "an unknown exception", error, size);
    }
}

// Holds a voice for one call.
class Held {
public:
    explicit Held(gsv_voice* voice) : voice_(voice) {
        if (!voice) throw gsv::Error(GSV_INPUT, "no voice was given").fix("open one with gsv_open");
        if (!voice->enter())
            throw gsv::Error(GSV_INPUT, "another call is using this voice")
                .fix("wait for it, or open the artifact twice");
    }
    ~Held() { voice_->leave(); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

private:
    gsv_voice* voice_;
};

// As many as there is room for.
void hand_out(const std::vector<int64_t>& all, int64_t* into, size_t room, size_t* count) {
    *count = all.size();
    std::copy_n(all.begin(), std::min(room, all.size()), into);
}

// The caller's structure, as far as it goes, over the defaults.
template <typename Options>
Options merged(const Options* given, void (*init)(Options*)) {
    Options all;
    init(&all);
    if (given) {
        if (given->size < sizeof(size_t) || given->size > 65536)
            throw gsv::Error(GSV_INPUT, "the options have no size").fix("make them with the _init function");
        std::memcpy(&all, given, std::min(given->size, sizeof all));
    }
    return all;
}

template <typename Result>
void check_size(const Result* into) {
    if (into && (into->size < sizeof(size_t) || into->size > 65536))
        throw gsv::Error(GSV_INPUT, "the structure for the result has no size").fix("set its member size to sizeof");
}

template <typename Result>
void hand_out(Result all, Result* into) {
    if (!into) return;
    all.size = into->size;
    std::memcpy(into, &all, std::min(all.size, sizeof all));
}

gsv::Manner manner_of(const gsv_voice* voice, const gsv_say_options* given) {
    gsv_say_options options = merged(given, gsv_say_options_init);
    gsv::Manner found;
    found.sampling = voice->artifact().sampling;
    found.seed = options.seed;
    found.sentence = options.sentence;
    found.sampling.greedy = options.greedy != 0;
    if (options.top_k != 0) found.sampling.top_k = options.top_k;
    if (!(options.top_p < 0)) found.sampling.top_p = options.top_p;  // NaN is told as out of range
    if (!(options.temperature < 0)) found.sampling.temperature = options.temperature;
    if (!(options.repetition_penalty < 0)) found.sampling.repetition_penalty = options.repetition_penalty;
    if (!(options.noise_scale < 0)) found.noise_scale = static_cast<float>(options.noise_scale);
    found.speed = options.speed;
    if (options.max_tokens != 0) found.max_tokens = options.max_tokens;
    found.no_prompt = options.no_prompt != 0;
    found.bert = options.bert;
    found.window = options.window;
    found.ahead = options.ahead;
    return found;
}

std::vector<int64_t> phones_of(const int64_t* phones, size_t count) {
    if (!phones && count) throw gsv::Error(GSV_INPUT, "no phones were given");
    if (count > 1u << 20) throw gsv::Error(GSV_INPUT, "these are more phones than any sentence has");
    return std::vector<int64_t>(phones, phones + count);
}

const gsv::Phrase& phrase_of(const gsv_pack* pack, const gsv_voice* voice, const char* phrase) {
    if (!pack || !voice || !phrase) throw gsv::Error(GSV_INPUT, "a phrase needs a pack, a voice and its name");
    const std::string &wanted = pack->symbols, &has = voice->artifact().symbols;
    if (wanted != has)
        throw gsv::Error(GSV_INPUT, "the pack is for voices of phone table " + wanted + "; this one has " + has)
            .fix("make a pack for this voice: gsvexport phrases");
    return pack->phrase(phrase);
}

gsv::Values values_of(const gsv_slot* slots, size_t count) {
    gsv::Values found;
    if ((count && !slots) || count > 64) throw gsv::Error(GSV_INPUT, "these are no slots").limit("64");
    for (size_t i = 0; i < count; ++i) {
        if (!slots[i].name || !slots[i].value) throw gsv::Error(GSV_INPUT, "a slot needs a name and a value");
        found[slots[i].name] = slots[i].value;
    }
    return found;
}

}  // namespace

extern "C" {

uint32_t gsv_abi_version(void) { return GSV_ABI_VERSION; }

const char* gsv_status_name(gsv_status status) {
    switch (status) {
        case GSV_OK: return "done";
        case GSV_INPUT: return "input";
        case GSV_VOICE: return "voice";
        case GSV_GATE: return "gate";
        case GSV_ARTIFACT: return "artifact";
        case GSV_ENVIRONMENT: return "environment";
        case GSV_BACKEND: return "backend";
        case GSV_CANCELLED: return "cancelled";
        default: return "defect";
    }
}

void gsv_open_options_init(gsv_open_options* options) {
    std::memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

void gsv_say_options_init(gsv_say_options* options) {
    std::memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    options->top_p = options->temperature = options->repetition_penalty = options->noise_scale = -1;
    options->speed = 1;
    options->ahead = 8;
}

gsv_status gsv_unpack(const char* file, const char* folder, gsv_watch watch, void* user, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!file || !folder) throw gsv::Error(GSV_INPUT, "gsv_unpack needs a file and a folder");
        gsv::unpack(file, folder,
                    [&](uint64_t done, uint64_t total) { return !watch || watch(user, done, total) == 0; });
    });
}

gsv_status gsv_open(const char* folder, const gsv_open_options* options, gsv_voice** voice, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!folder || !voice) throw gsv::Error(GSV_INPUT, "gsv_open needs a folder and a place for the voice");
        *voice = nullptr;
        gsv_open_options all = merged(options, gsv_open_options_init);
        if (all.threads < 0)
            throw gsv::Error(GSV_INPUT, "threads is " + std::to_string(all.threads)).limit("0 (all) or more");
        gsv::check_library();  // before there is anything of ONNX Runtime's to be destroyed
        *voice = new gsv_voice(std::string(folder), all.threads, all.any_machine != 0, all.sizes_only != 0);
    });
}

void gsv_close(gsv_voice* voice) { delete voice; }

gsv_status gsv_describe(const gsv_voice* voice, gsv_info* info, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!voice || !info) throw gsv::Error(GSV_INPUT, "gsv_describe needs a voice and a place for what it says");
        check_size(info);
        const gsv::Artifact& from = voice->artifact();
        gsv_info all = {};
        all.name = from.name.c_str();
        all.language = from.language.c_str();
        all.version = from.version.c_str();
        all.symbols = from.symbols.c_str();
        all.target = from.target.c_str();
        all.rate = from.rate;
        all.hop = from.hop;
        all.codes = from.codes_and_end;
        all.phones = std::min(from.phones, from.text_phones);
        all.prompted = voice->prompted();
        all.streams = from.streams();
        hand_out(all, info);
    });
}

gsv_status gsv_phones(const gsv_voice* voice, const char* text, int64_t* ids, size_t room, size_t* count, char* error,
                      size_t size) {
    return guarded(error, size, [&] {
        if (!voice || !text || !count || (room && !ids))
            throw gsv::Error(GSV_INPUT, "gsv_phones needs a voice, a text and a count");
        hand_out(gsv::phone_ids(text, voice->artifact().symbols), ids, room, count);
    });
}

gsv_status gsv_say(gsv_voice* voice, const int64_t* phones, size_t count, const gsv_say_options* options, gsv_sink sink,
                   void* user, gsv_said* said, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!sink) throw gsv::Error(GSV_INPUT, "gsv_say needs a callback for the sound");
        check_size(said);
        Held held(voice);
        hand_out(voice->say(phones_of(phones, count), manner_of(voice, options),
                            [&](const float* samples, size_t some) { return sink(user, samples, some) == 0; }),
                 said);
    });
}

gsv_status gsv_tokens(gsv_voice* voice, const int64_t* phones, size_t count, const gsv_say_options* options,
                      int64_t* codes, size_t room, size_t* found, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!found || (room && !codes)) throw gsv::Error(GSV_INPUT, "gsv_tokens needs a place for its results");
        Held held(voice);
        hand_out(voice->tokens(phones_of(phones, count), manner_of(voice, options)), codes, room, found);
    });
}

gsv_status gsv_pack_open(const char* file, gsv_pack** pack, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!file || !pack) throw gsv::Error(GSV_INPUT, "gsv_pack_open needs a file and a place for the pack");
        *pack = nullptr;
        *pack = new gsv_pack(file);
    });
}

void gsv_pack_close(gsv_pack* pack) { delete pack; }

const char* gsv_pack_phrase(const gsv_pack* pack, size_t index) {
    if (!pack || index >= pack->phrases.size()) return nullptr;
    return std::next(pack->phrases.begin(), static_cast<std::ptrdiff_t>(index))->first.c_str();
}

gsv_status gsv_pack_phones(const gsv_pack* pack, const gsv_voice* voice, const char* phrase, const gsv_slot* slots,
                           size_t slot_count, int64_t* ids, size_t room, size_t* count, char* error, size_t size) {
    return guarded(error, size, [&] {
        if (!count || (room && !ids)) throw gsv::Error(GSV_INPUT, "gsv_pack_phones needs a place for its results");
        std::string phones = phrase_of(pack, voice, phrase).filled(values_of(slots, slot_count));
        hand_out(gsv::phone_ids(phones, pack->symbols), ids, room, count);
    });
}

gsv_status gsv_pack_say(const gsv_pack* pack, gsv_voice* voice, const char* phrase, const gsv_slot* slots,
                        size_t slot_count, const gsv_say_options* options, gsv_sink sink, void* user, gsv_said* said,
                        char* error, size_t size) {
    std::vector<int64_t> phones;
    bool played = false;
    gsv_status status = guarded(error, size, [&] {
        if (!sink) throw gsv::Error(GSV_INPUT, "gsv_pack_say needs a callback for the sound");
        check_size(said);
        auto began = std::chrono::steady_clock::now();
        auto passed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count(); };
        const gsv::Phrase& chosen = phrase_of(pack, voice, phrase);
        std::string names = chosen.filled(values_of(slots, slot_count));
        const gsv::Artifact& from = voice->artifact();
        std::vector<int16_t> sound;
        if (!options && pack->voice == from.name && pack->rate == from.rate) sound = pack->sound(chosen);
        if (sound.empty()) {
            phones = gsv::phone_ids(names, pack->symbols);
            return;
        }
        Held held(voice);
        std::vector<float> samples(sound.size());
        std::transform(sound.begin(), sound.end(), samples.begin(),
                       [](int16_t one) { return static_cast<float>(one) / 32767.0f; });
        gsv_said all = {};
        all.first_sound = passed();
        if (sink(user, samples.data(), samples.size()) != 0) throw gsv::Error(GSV_CANCELLED, "cancelled");
        all.samples = samples.size();
        all.ended = 1;
        all.seconds = passed();
        hand_out(all, said);
        played = true;
    });
    if (status || played) return status;
    return gsv_say(voice, phones.data(), phones.size(), options, sink, user, said, error, size);
}

void gsv_cancel(gsv_voice* voice) {
    if (voice) voice->cancel();
}

size_t gsv_pcm16(const float* samples, size_t count, int16_t* out) {
    size_t clipped = 0;
    for (size_t i = 0; i < count; ++i) {
        float one = samples[i];
        clipped += one > 1 || one < -1;
        out[i] = static_cast<int16_t>(std::nearbyint(std::clamp(one, -1.0f, 1.0f) * 32767.0f));
    }
    return clipped;
}

gsv_status gsv_verify(gsv_voice* voice, gsv_line line, void* user, char* error, size_t size) {
    return guarded(error, size, [&] {
        Held held(voice);
        voice->verify([&](const std::string& text) {
            if (line) line(user, text.c_str());
        });
    });
}
}
