//! A static program that does nothing: what it costs to start one.
//!
//! Linked with musl and without the start-up of Rust's standard library, as small as such a program is.

#![cfg_attr(panic = "abort", no_std)]
#![no_main]
#![allow(unsafe_code, reason = "the C library calls a function by its name")]

mod without_std;

use core::ffi::{c_char, c_int};

#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    0
}
