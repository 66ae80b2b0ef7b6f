#include "flac.hpp"

#include "error.hpp"

#ifdef GSV_FLAC
#include <FLAC/stream_decoder.h>

#include <algorithm>
#include <cstring>
#include <memory>
#endif

namespace gsv {

#ifdef GSV_FLAC

namespace {

constexpr size_t MOST_SAMPLES = 768000 * 600;  // ten minutes at any rate

struct Reading {
    const unsigned char* data;
    size_t left;
    int32_t rate;
    std::vector<int16_t> samples;
    bool wrong = false;
};

FLAC__StreamDecoderReadStatus read(const FLAC__StreamDecoder*, FLAC__byte into[], size_t* count, void* user) {
    auto from = static_cast<Reading*>(user);
    *count = std::min(*count, from->left);
    if (!*count) return FLAC__STREAM_DECODER_READ_STATUS_END_OF_STREAM;
    std::memcpy(into, from->data, *count);
    from->data += *count;
    from->left -= *count;
    return FLAC__STREAM_DECODER_READ_STATUS_CONTINUE;
}

FLAC__StreamDecoderWriteStatus write(const FLAC__StreamDecoder*, const FLAC__Frame* frame,
                                     const FLAC__int32* const channels[], void* user) {
    auto into = static_cast<Reading*>(user);
    const FLAC__FrameHeader& head = frame->header;
    if (head.channels != 1 || head.bits_per_sample != 16 || head.sample_rate != static_cast<uint32_t>(into->rate) ||
        into->samples.size() + head.blocksize > MOST_SAMPLES) {
        into->wrong = true;
        return FLAC__STREAM_DECODER_WRITE_STATUS_ABORT;
    }
    for (uint32_t i = 0; i < head.blocksize; ++i) into->samples.push_back(static_cast<int16_t>(channels[0][i]));
    return FLAC__STREAM_DECODER_WRITE_STATUS_CONTINUE;
}

void failed(const FLAC__StreamDecoder*, FLAC__StreamDecoderErrorStatus, void* user) {
    static_cast<Reading*>(user)->wrong = true;
}

}  // namespace

bool plays_flac() { return true; }

std::vector<int16_t> flac_samples(const unsigned char* data, size_t size, int32_t rate) {
    std::unique_ptr<FLAC__StreamDecoder, void (*)(FLAC__StreamDecoder*)> decoder(FLAC__stream_decoder_new(),
                                                                                 FLAC__stream_decoder_delete);
    Reading all = {data, size, rate, {}, false};
    bool done = decoder &&
                FLAC__stream_decoder_init_stream(decoder.get(), read, nullptr, nullptr, nullptr, nullptr, write,
                                                 nullptr, failed, &all) == FLAC__STREAM_DECODER_INIT_STATUS_OK &&
                FLAC__stream_decoder_process_until_end_of_stream(decoder.get());
    if (!done || all.wrong)
        throw Error(GSV_INPUT, "the sound of a phrase is no FLAC of one channel, 16 bits and " + std::to_string(rate) +
                                   " samples a second")
            .fix("make the pack again: gsvexport phrases --render");
    return std::move(all.samples);
}

#else

bool plays_flac() { return false; }

std::vector<int16_t> flac_samples(const unsigned char*, size_t, int32_t) {
    throw Error(GSV_DEFECT, "this library was built without libFLAC");
}

#endif

}  // namespace gsv
