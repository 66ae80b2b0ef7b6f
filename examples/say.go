// Speaks one sentence: say FOLDER "HH AH0 L OW1 ." | aplay -f S16_LE -r RATE
// go run examples/say.go FOLDER PHONES, with gsv.pc where pkg-config looks (PKG_CONFIG_PATH)
package main

/*
#cgo pkg-config: gsv
#include <gsv.h>
#include <unistd.h>
static int play(void *user, const float *samples, size_t count) {
	int16_t pcm[1024];
	(void)user;
	for (size_t done = 0, some; done < count; done += some) {
		some = count - done < 1024 ? count - done : 1024;
		gsv_pcm16(samples + done, some, pcm);
		if (write(1, pcm, 2 * some) != (ssize_t)(2 * some)) return 1; // nobody listens: stop
	}
	return 0;
}
static gsv_sink player(void) { return play; }
*/
import "C"

import (
	"fmt"
	"os"
)

func main() {
	var voice *C.gsv_voice
	var failure [C.GSV_ERROR_SIZE]C.char
	var ids [512]C.int64_t
	var count C.size_t
	status := C.gsv_open(C.CString(os.Args[1]), nil, &voice, &failure[0], C.GSV_ERROR_SIZE)
	if status == C.GSV_OK {
		status = C.gsv_phones(voice, C.CString(os.Args[2]), &ids[0], 512, &count, &failure[0], C.GSV_ERROR_SIZE)
	}
	if status == C.GSV_OK {
		if count > 512 {
			count = 512
		}
		status = C.gsv_say(voice, &ids[0], count, nil, C.player(), nil, nil, &failure[0], C.GSV_ERROR_SIZE)
	}
	if status != C.GSV_OK {
		fmt.Fprintln(os.Stderr, C.GoString(&failure[0]))
	}
	C.gsv_close(voice)
	os.Exit(int(status))
}
