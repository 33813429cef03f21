//! Memory for everything that is allocated: from one piece, of which the program seldom needs more, and without asking
//! the kernel for it.

#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::{Cell, UnsafeCell};
use core::ptr;

/// The bytes of the piece. It is in `.bss`: the kernel gives a page when it is first used.
const SIZE: usize = 256 << 10;

/// What `malloc(3)` of musl aligns to. Nothing here asks for more.
const ALIGNMENT: usize = 16;

/// Gives one block after the other. The last one can grow, shrink and be given back; others are not used again, since
/// the program ends soon. When the piece is used up, `malloc(3)` serves.
#[repr(C, align(16))]
pub struct Memory {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// Where the next block begins.
    used: Cell<usize>,
}

// SAFETY: the program has one thread. A process that it forks has a copy.
unsafe impl Sync for Memory {}

impl Memory {
    /// All of it is free.
    pub const fn new() -> Memory {
        Memory { bytes: UnsafeCell::new([0; SIZE]), used: Cell::new(0) }
    }

    /// Where in the piece a block begins, if it is from there.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.bytes.get().addr()).filter(|&offset| offset < SIZE)
    }
}

// SAFETY: blocks are aligned, of the size that is asked for, and apart from each other: `used` is the end of the last.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGNMENT {
            return ptr::null_mut();
        }
        let start = self.used.get().next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(end) if end <= SIZE => {
                self.used.set(end);
                // SAFETY: within the piece.
                unsafe { self.bytes.get().cast::<u8>().add(start) }
            }
            // SAFETY: any size will do.
            _ => unsafe { libc::malloc(layout.size()).cast() },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(start) if start + layout.size() == self.used.get() => self.used.set(start),
            Some(_) => {}
            // SAFETY: what is not from the piece is from malloc.
            None => unsafe { libc::free(block.cast()) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(block) else {
            // SAFETY: what is not from the piece is from malloc.
            return unsafe { libc::realloc(block.cast(), size).cast() };
        };
        let is_last = start + layout.size() == self.used.get();
        if size <= layout.size() || (is_last && size <= SIZE - start) {
            if is_last {
                self.used.set(start + size);
            }
            return block;
        }
        // SAFETY: the caller promises that the alignment and the new size make a layout, and that the block has the old
        // size, of which the new one has room.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size());
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, alignment: usize) -> Layout {
        Layout::from_size_align(size, alignment).unwrap()
    }

    #[test]
    fn blocks_are_aligned_and_apart() {
        static MEMORY: Memory = Memory::new();
        let mut end = 0;
        for (size, alignment) in [(1, 1), (8, 8), (3, 1), (16, 16), (2, 2)] {
            let block = unsafe { MEMORY.alloc(layout(size, alignment)) };
            let start = MEMORY.offset(block).unwrap();
            assert!(start >= end && block.addr() % alignment == 0, "{size} {alignment}");
            end = start + size;
        }
        assert_eq!(end, MEMORY.used.get());
        assert!(unsafe { MEMORY.alloc(layout(1, 32)) }.is_null());
    }

    #[test]
    fn the_last_block_stays_where_it_is() {
        static MEMORY: Memory = Memory::new();
        unsafe {
            let first = MEMORY.alloc(layout(4, 1));
            first.write_bytes(7, 4);
            assert_eq!(MEMORY.realloc(first, layout(4, 1), 100), first);
            assert_eq!(MEMORY.realloc(first, layout(100, 1), 4), first);
            let last = MEMORY.alloc(layout(10, 1));
            // The first one is not the last any more, and has to move.
            let moved = MEMORY.realloc(first, layout(4, 1), 50);
            assert_eq!((MEMORY.offset(last), MEMORY.offset(moved)), (Some(4), Some(14)));
            assert_eq!(moved.cast::<[u8; 4]>().read(), [7; 4]);
            MEMORY.dealloc(moved, layout(50, 1));
            MEMORY.dealloc(last, layout(10, 1));
            MEMORY.dealloc(first, layout(1, 1));
        }
        assert_eq!(MEMORY.used.get(), 4);
    }

    #[test]
    fn there_is_more_than_the_piece() {
        static MEMORY: Memory = Memory::new();
        unsafe {
            let block = MEMORY.alloc(layout(SIZE - 1, 1));
            block.write_bytes(7, SIZE - 1);
            let large = MEMORY.realloc(block, layout(SIZE - 1, 1), SIZE + 1);
            assert_eq!((MEMORY.offset(large), MEMORY.used.get()), (None, 0));
            assert_eq!(large.add(SIZE - 2).read(), 7);
            let larger = MEMORY.realloc(large, layout(SIZE + 1, 1), 2 * SIZE);
            assert_eq!(larger.add(SIZE - 2).read(), 7);
            MEMORY.dealloc(larger, layout(2 * SIZE, 1));
        }
    }
}
