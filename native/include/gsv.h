/* gsv.h: a voice that gsvexport built, spoken from C. C11; nothing of C++ or ONNX Runtime shows.
 *
 *     gsv_voice *voice;
 *     char error[GSV_ERROR_SIZE];
 *     if (gsv_open("alice", NULL, &voice, error, sizeof error)) { fputs(error, stderr); exit(1); }
 *     gsv_say(voice, phones, count, NULL, play, speaker, NULL, error, sizeof error);
 *     gsv_close(voice);
 *
 * Rules for every function:
 *   - It returns GSV_OK or what went wrong, and then writes a text for people into `error`, cut to `error_size`
 *     bytes with its final zero. `error` may be NULL. The statuses are the exit codes of gsvexport's command line.
 *   - No C++ exception leaves it, also when memory ends.
 *   - There is no global state, no thread but those of ONNX Runtime, and nothing but gsv_unpack writes to
 *     a disk.
 *   - Voices may be used from several threads, each by one call at a time; a second call at the same time is refused
 *     with GSV_INPUT. gsv_cancel alone may come at any time, from any thread or signal handler.
 *   - Structures begin with their size, so that one that grows stays readable for programs compiled before: make them
 *     with the _init functions.
 */
#ifndef GSV_H
#define GSV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GSV_API __attribute__((visibility("default")))
#else
#define GSV_API
#endif

#define GSV_ABI_VERSION 1
#define GSV_ERROR_SIZE 2048 /* bytes that hold every text in practice */

typedef enum gsv_status {
    GSV_OK = 0,
    GSV_INPUT = 2,       /* arguments that cannot be used */
    GSV_VOICE = 3,       /* a voice of a kind that this library does not speak */
    GSV_GATE = 5,        /* gsv_verify: a limit was missed */
    GSV_ARTIFACT = 6,    /* damaged, incomplete, of an unknown schema, or made for another machine */
    GSV_ENVIRONMENT = 7, /* the machine: no memory, no permission, a library that is too old */
    GSV_BACKEND = 9,     /* ONNX Runtime failed, or a network gave NaN */
    GSV_DEFECT = 70,     /* a defect of this library */
    GSV_CANCELLED = 130  /* gsv_cancel was called, or the callback returned another value than 0 */
} gsv_status;

/* The ABI of the library that was loaded. Programs compare it with GSV_ABI_VERSION. */
GSV_API uint32_t gsv_abi_version(void);

/* What a status is called, in one word. */
GSV_API const char *gsv_status_name(gsv_status status);

typedef struct gsv_voice gsv_voice;

typedef struct gsv_open_options {
    size_t size;
    int32_t threads;     /* processor cores a graph may use; 0: all */
    int32_t any_machine; /* open what was made for another processor, too */
    int32_t sizes_only;  /* trust SHA-256 checks that were made before, and check sizes alone */
} gsv_open_options;

GSV_API void gsv_open_options_init(gsv_open_options *options);

/* Told now and then how many of `total` bytes are written. Another value than 0 ends the work. */
typedef int (*gsv_watch)(void *user, uint64_t done, uint64_t total);

/* Unpacks an artifact, a `.gsv` file, into `folder`, which must not exist. Every member is compared with its size and
 * SHA-256; the folder appears complete or not at all. Signatures are not looked at. This alone writes to a disk.
 * `watch` may be NULL. */
GSV_API gsv_status gsv_unpack(const char *file, const char *folder, gsv_watch watch, void *user, char *error,
                              size_t error_size);

/* Opens an unpacked artifact: the folder that gsv_unpack or `gsvexport unpack` made. `options` may be NULL.
 * Every graph is loaded, and every file is compared with its size and SHA-256 in the manifest. */
GSV_API gsv_status gsv_open(const char *folder, const gsv_open_options *options, gsv_voice **voice, char *error,
                            size_t error_size);

/* Frees everything; NULL is allowed. No call may use the voice any more. */
GSV_API void gsv_close(gsv_voice *voice);

/* What an artifact says of itself. Texts live as long as the voice. */
typedef struct gsv_info {
    size_t size;
    const char *name;     /* of the voice */
    const char *language; /* "en", "zh", ... */
    const char *version;  /* of GPT-SoVITS: "v2", "v2Pro", ... */
    const char *symbols;  /* the phone table: "v1", "v1-2024-08" or "v2" */
    const char *target;   /* what it was built for: "x86-64-int8", ... */
    int32_t rate;         /* samples a second */
    int32_t hop;          /* samples of a latent frame; a code is two frames */
    int32_t codes;        /* V: how many codes there are, the end of a sentence included */
    int32_t phones;       /* how many phones the voice knows */
    int32_t prompted;     /* whether it continues a recording of its own */
    int32_t streams;      /* whether it can speak in pieces */
} gsv_info;

GSV_API gsv_status gsv_describe(const gsv_voice *voice, gsv_info *info, char *error, size_t error_size);

/* Reads phones, by name or number, between spaces: "HH AH0 L OW1 ." At most `room` ids are written, and `count` is how
 * many there are; `ids` may be NULL when `room` is 0. GSV_INPUT tells every unknown name. */
GSV_API gsv_status gsv_phones(const gsv_voice *voice, const char *text, int64_t *ids, size_t room, size_t *count,
                              char *error, size_t error_size);

typedef struct gsv_say_options {
    size_t size;
    uint64_t seed;             /* decides everything random, as in Python (docs/seeds.md) */
    uint32_t sentence;         /* number of the sentence in its text, from 0 */
    int32_t greedy;            /* take the most likely code */
    int32_t top_k;             /* 0: the voice's own */
    double top_p;              /* below 0: the voice's own; so are the next two */
    double temperature;
    double repetition_penalty;
    double noise_scale;        /* 0 to 4; below 0: 0.5 */
    double speed;              /* 0.25 to 4; 2 is twice as fast */
    int32_t max_tokens;        /* codes of the sentence at most; 0: 1500 */
    int32_t no_prompt;         /* speak without the recording that the voice continues */
    const float *bert;         /* [1024, count] features of the text for Mandarin, or NULL */
    double window;             /* seconds of a piece; 0: the sentence comes in one piece */
    int32_t ahead;             /* codes that a piece waits for beyond its own; 0: all. For window > 0 */
} gsv_say_options;

/* The defaults: seed 0, the voice's own sampling, one piece; ahead 8. */
GSV_API void gsv_say_options_init(gsv_say_options *options);

/* Receives sound: mono samples, nominally in [-1, 1], at the voice's rate, valid during the call. Another value than 0
 * ends the sentence. */
typedef int (*gsv_sink)(void *user, const float *samples, size_t count);

/* What is to be told of a sentence. */
typedef struct gsv_said {
    size_t size;
    size_t codes;         /* 25 a second, or what rate and hop say */
    size_t samples;       /* handed to the sink */
    int32_t ended;        /* whether it ended by itself, and not at max_tokens */
    double first_sound;   /* seconds from the call to the first piece */
    double seconds;       /* seconds of the whole call */
} gsv_said;

/* Speaks one sentence, given as phone ids. `options` and `said` may be NULL. */
GSV_API gsv_status gsv_say(gsv_voice *voice, const int64_t *phones, size_t count, const gsv_say_options *options,
                           gsv_sink sink, void *user, gsv_said *said, char *error, size_t error_size);

/* Only the codes of that sentence; at most `room` are written, `found` is how many there are. */
GSV_API gsv_status gsv_tokens(gsv_voice *voice, const int64_t *phones, size_t count, const gsv_say_options *options,
                              int64_t *codes, size_t room, size_t *found, char *error, size_t error_size);

/* ---- phrase packs: what `gsvexport phrases` made (docs/phrases.md) ---- */

typedef struct gsv_pack gsv_pack;

typedef struct gsv_slot {
    const char *name;  /* of a slot: "metres" */
    const char *value; /* as the pack has it: "250" */
} gsv_slot;

/* Opens a pack. It may be used with several voices, and from several threads at once. */
GSV_API gsv_status gsv_pack_open(const char *file, gsv_pack **pack, char *error, size_t error_size);
GSV_API void gsv_pack_close(gsv_pack *pack);

/* The name of phrase `index`, in the order of the alphabet, or NULL where there are no more; lives as long as the pack. */
GSV_API const char *gsv_pack_phrase(const gsv_pack *pack, size_t index);

/* The phones of a phrase with its slots filled, as gsv_phones gives them. GSV_INPUT tells every slot and value that is
 * wrong, and a pack whose phone table is not the voice's. */
GSV_API gsv_status gsv_pack_phones(const gsv_pack *pack, const gsv_voice *voice, const char *phrase,
                                   const gsv_slot *slots, size_t slot_count, int64_t *ids, size_t room, size_t *count,
                                   char *error, size_t error_size);

/* Speaks a phrase, or plays what `gsvexport phrases --render` made of it: that is so where the pack was made for this
 * voice, `options` is NULL, and the library was built with libFLAC. `said` then tells of no codes. */
GSV_API gsv_status gsv_pack_say(const gsv_pack *pack, gsv_voice *voice, const char *phrase, const gsv_slot *slots,
                                size_t slot_count, const gsv_say_options *options, gsv_sink sink, void *user,
                                gsv_said *said, char *error, size_t error_size);

/* Ends the call that uses this voice, within one operator of the graph. Without such a call nothing happens. */
GSV_API void gsv_cancel(gsv_voice *voice);

/* 16-bit samples, rounded; those outside [-1, 1] are clipped. Returns how many were. */
GSV_API size_t gsv_pcm16(const float *samples, size_t count, int16_t *out);

/* Receives a line about each thing that gsv_verify measured. */
typedef void (*gsv_line)(void *user, const char *line);

/* Runs the artifact's golden vectors: every stage, and T2S step by step on given codes. Limits are those that the
 * artifact's own report was judged by. GSV_GATE: one was missed. */
GSV_API gsv_status gsv_verify(gsv_voice *voice, gsv_line line, void *user, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
