// Speaks one sentence: say FOLDER "HH AH0 L OW1 ." | aplay -f S16_LE -r RATE
// rustc examples/say.rs -L native=LIB -l gsv. What `bindgen gsv.h` writes takes the place of the extern block.
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::io::Write;
use std::ptr::{null, null_mut};

extern "C" {
    fn gsv_open(folder: *const c_char, options: *const c_void, voice: *mut *mut c_void, error: *mut c_char, size: usize) -> c_int;
    fn gsv_phones(voice: *const c_void, text: *const c_char, ids: *mut i64, room: usize, count: *mut usize, error: *mut c_char, size: usize) -> c_int;
    fn gsv_say(voice: *mut c_void, phones: *const i64, count: usize, options: *const c_void,
               sink: extern "C" fn(*mut c_void, *const f32, usize) -> c_int, user: *mut c_void, said: *mut c_void,
               error: *mut c_char, size: usize) -> c_int;
    fn gsv_pcm16(samples: *const f32, count: usize, out: *mut i16) -> usize;
    fn gsv_close(voice: *mut c_void);
}

extern "C" fn play(_: *mut c_void, samples: *const f32, count: usize) -> c_int {
    let mut pcm = vec![0i16; count];
    unsafe { gsv_pcm16(samples, count, pcm.as_mut_ptr()) };
    let bytes: Vec<u8> = pcm.iter().flat_map(|one| one.to_le_bytes()).collect();
    std::io::stdout().write_all(&bytes).is_err() as c_int // nobody listens: stop
}

fn main() {
    let words: Vec<CString> = std::env::args().skip(1).map(|one| CString::new(one).unwrap()).collect();
    let (mut error, mut voice, mut ids, mut count) = ([0 as c_char; 2048], null_mut(), [0i64; 512], 0usize);
    let text = error.as_mut_ptr();
    let status = unsafe {
        let mut status = gsv_open(words[0].as_ptr(), null(), &mut voice, text, 2048);
        if status == 0 { status = gsv_phones(voice, words[1].as_ptr(), ids.as_mut_ptr(), 512, &mut count, text, 2048); }
        if status == 0 { status = gsv_say(voice, ids.as_ptr(), count.min(512), null(), play, null_mut(), null_mut(), text, 2048); }
        if status != 0 { eprintln!("{}", CStr::from_ptr(text).to_string_lossy()); }
        gsv_close(voice);
        status
    };
    std::process::exit(status);
}
