//! A key file of any contents is read, and each of its lines is one key or problem at most.

use prepare_root::signature::PublicKeys;

/// What comes last in every file, and must be found whatever is before it.
const GOOD: &[u8] = b"\n11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n";

/// One input.
pub fn run(bytes: &[u8]) {
    let (keys, problems) = PublicKeys::parse(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(keys.len() + problems.len() <= lines);
    for problem in &problems {
        assert!((1..=lines).contains(&problem.line));
        let text = problem.to_string();
        assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    }
    let (more, _) = PublicKeys::parse(&[bytes, GOOD].concat());
    // One that is binary as a whole is not when something follows it.
    assert!(more.len() == keys.len() + 1 || bytes.starts_with(b"\x30\x2a\x30\x05"));
    assert!(!more.is_empty());
}
