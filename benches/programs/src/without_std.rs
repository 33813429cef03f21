//! What a program without the standard library has to bring. Where panics unwind (tests, lints) it is linked, since
//! without it nobody could unwind.

/// Nothing here panics, but the compiler cannot know.
#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it ends the program, and nothing else.
    unsafe { libc::abort() }
}

// The C library, which starts the program; the standard library would have named it.
#[cfg(panic = "abort")]
#[link(name = "c")]
unsafe extern "C" {}
