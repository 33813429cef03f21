//! Numbers, text and checksums in the bytes of a disk. Whatever lies outside of the bytes is `None`.

use alloc::string::String;
use alloc::vec::Vec;

/// `N` bytes at an offset.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A little-endian number of 16 bits.
pub fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// A little-endian number of 32 bits.
pub fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// A little-endian number of 64 bits.
pub fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// A big-endian number of 16 bits.
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// A big-endian number of 32 bits.
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Whether these bytes are there.
pub fn is(bytes: &[u8], at: usize, expected: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(expected))
}

/// The text in a field, up to the first NUL.
pub fn text(bytes: &[u8], at: usize, length: usize) -> Option<Vec<u8>> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    Some(field.split(|&byte| byte == 0).next().unwrap_or_default().to_vec())
}

/// The text in a field of UTF-16LE, up to the first NUL, as UTF-8.
pub fn utf16(bytes: &[u8], at: usize, length: usize) -> Option<Vec<u8>> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    let units = field.chunks_exact(2).filter_map(|unit| le16(unit, 0)).take_while(|unit| *unit != 0);
    let characters = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    Some(characters.collect::<String>().into_bytes())
}

/// A UUID as text, of bytes in the order in which they are printed.
pub fn uuid(bytes: [u8; 16]) -> Vec<u8> {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = Vec::with_capacity(36);
    for (index, byte) in bytes.into_iter().enumerate() {
        if let 4 | 6 | 8 | 10 = index {
            text.push(b'-');
        }
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text
}

/// A number in digits, and nothing else.
pub fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        number.checked_mul(radix.into())?.checked_add(char::from(*digit).to_digit(radix)?.into())
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// A number of 32 bits in decimal digits.
pub fn decimal(digits: &[u8]) -> Option<u32> {
    u32::try_from(number(digits, 10)?).ok()
}

/// The polynomial of GPT's checksums.
pub const IEEE: u32 = 0xedb8_8320;
/// The polynomial of the checksums in file systems.
pub const CASTAGNOLI: u32 = 0x82f6_3b78;

/// Continues a CRC-32 with more bytes. It begins with all ones; some formats invert it at the end.
///
/// Bit by bit: a table would be as large as the rest of this file, and a boot checks some kilobytes.
pub fn crc32(polynomial: u32, crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (polynomial & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_catalogue() {
        // The check values of CRC-32/ISO-HDLC and CRC-32/ISCSI: https://reveng.sourceforge.io/crc-catalogue/
        assert_eq!(!crc32(IEEE, !0, b"123456789"), 0xcbf4_3926);
        assert_eq!(!crc32(CASTAGNOLI, !0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32(IEEE, crc32(IEEE, !0, b"1234"), b"56789"), crc32(IEEE, !0, b"123456789"));
    }

    #[test]
    fn numbers_are_digits_and_fit() {
        assert_eq!(decimal(b"4294967295"), Some(u32::MAX));
        assert_eq!(number(b"fD02", 16), Some(0xfd02));
        for none in ["", "+1", "-1", " 1", "1 ", "0x1", "4294967296"] {
            assert_eq!(decimal(none.as_bytes()), None, "{none}");
        }
        assert_eq!(number(b"18446744073709551616", 10), None);
    }

    #[test]
    fn nothing_outside_is_read() {
        assert_eq!(le32(b"1234", 1), None);
        assert_eq!(le32(b"1234", usize::MAX), None);
        assert_eq!(text(b"1234", 1, usize::MAX), None);
        assert_eq!(utf16(b"1234", usize::MAX, 2), None);
        assert!(!is(b"1234", 5, b""));
    }

    #[test]
    fn text_ends_at_nul() {
        assert_eq!(text(b"xab\0c", 1, 4), Some(b"ab".to_vec()));
        assert_eq!(text(b"xabc", 1, 3), Some(b"abc".to_vec()));
        assert_eq!(utf16(b"\xe9\x00\x3d\xd8\x00\xde\0\0x\0", 0, 10), Some("é😀".into()));
        assert_eq!(utf16(b"\x3d\xd8x\0", 0, 4), Some("\u{fffd}x".into()));
    }
}
