/* Speaks one sentence into the loudspeaker: say FOLDER "HH AH0 L OW1 ." | aplay -f S16_LE -r RATE */
#include <gsv.h>
#include <stdio.h>

static int play(void *user, const float *samples, size_t count)
{
    int16_t pcm[1024];
    for (size_t done = 0; done < count;) {
        size_t some = count - done < 1024 ? count - done : 1024;
        gsv_pcm16(samples + done, some, pcm);
        if (fwrite(pcm, sizeof *pcm, some, (FILE *)user) != some) return 1; /* nobody listens: stop */
        done += some;
    }
    return fflush((FILE *)user);
}

int main(int argc, char **argv)
{
    char error[GSV_ERROR_SIZE];
    gsv_voice *voice = NULL;
    int64_t phones[512];
    size_t count = 0;
    gsv_say_options options;
    gsv_say_options_init(&options);
    options.window = 0.4; /* in pieces of 0.4 s */
    if (argc != 3) return fputs("say FOLDER PHONES\n", stderr), GSV_INPUT;
    gsv_status status = gsv_open(argv[1], NULL, &voice, error, sizeof error);
    if (!status) status = gsv_phones(voice, argv[2], phones, 512, &count, error, sizeof error);
    if (!status) status = gsv_say(voice, phones, count < 512 ? count : 512, &options, play, stdout, NULL, error, sizeof error);
    if (status) fprintf(stderr, "%s\n", error);
    gsv_close(voice);
    return (int)status;
}
