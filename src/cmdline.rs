//! The kernel command line, and which deployment it asks for.

use crate::boot_link::BootLink;
use crate::error::{Class, Error, Result, printable};
use crate::lookup;
use crate::selector::Selector;
use alloc::vec::Vec;
use core::ops::Range;

/// The bytes of a kernel command line.
///
/// Arguments are separated and quoted as the kernel does it (`next_arg` in `lib/cmdline.c`): white
/// space separates, double quotes protect it, and quotes around a value are not part of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline {
    bytes: Vec<u8>,
    /// Where the arguments are whose names begin as [`OURS`] do. They are asked for again and again, and among all
    /// others there are few of them.
    ours: Vec<Range<usize>>,
}

/// How the names of the arguments begin that tell which deployment is booted, and how.
const OURS: [&[u8]; 2] = [b"ostree", b"androidboot."];

/// What names the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A symbolic link on the physical root.
    Link(Link),
    /// `ostree.prepare-root.deployment=`
    Chosen(Selector),
}

/// A symbolic link that leads to the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The value of `ostree=`: a path below the physical root without leading slashes.
    Boot(Vec<u8>),
    /// An Android A/B slot (`androidboot.slot_suffix=`).
    Slot(Slot),
}

/// One of the two Android boot slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `_a`, and Android boots without slots.
    A,
    /// `_b`.
    B,
}

const FIND: &str = "find the deployment on the kernel command line";

impl Link {
    /// The link's path below the physical root.
    pub fn path(&self) -> &[u8] {
        match self {
            Link::Boot(path) => path,
            Link::Slot(Slot::A) => b"ostree/root.a",
            Link::Slot(Slot::B) => b"ostree/root.b",
        }
    }
}

impl core::fmt::Display for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Link::Boot(path) => write!(f, "ostree=/{}", path.escape_ascii()),
            Link::Slot(_) => write!(f, "the Android slot link /{}", self.path().escape_ascii()),
        }
    }
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Target::Link(link) => link.fmt(f),
            Target::Chosen(selector) => write!(f, "ostree.prepare-root.deployment={selector}"),
        }
    }
}

impl Cmdline {
    /// Takes the contents of `/proc/cmdline` or of the second argument.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let is_ours = |argument: &Range<usize>| {
            let (name, _) = split_argument(&bytes[argument.clone()]);
            OURS.iter().any(|start| name.starts_with(start))
        };
        let ours = split(&bytes).filter(is_ours).collect();
        Cmdline { bytes, ours }
    }

    /// Reads the kernel's own.
    ///
    /// # Errors
    /// [`Class::Cmdline`]
    pub fn read() -> Result<Cmdline> {
        lookup::read_at_once(c"/proc/cmdline").map(Cmdline::new).map_err(|errno| {
            Error::errno(Class::Cmdline, "read /proc/cmdline", errno)
                .hint("mount proc on /proc and run this again")
        })
    }

    /// The same with an argument in front, where it counts.
    pub fn after(&self, argument: &str) -> Cmdline {
        Cmdline::new([argument.as_bytes(), b" ", &self.bytes].concat())
    }

    /// The arguments in order: name, and value if there is a `=`.
    pub fn arguments(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        split(&self.bytes).map(|argument| split_argument(&self.bytes[argument]))
    }

    /// Those that tell which deployment is booted, and how.
    pub fn ours(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.ours.iter().map(|argument| split_argument(&self.bytes[argument.clone()]))
    }

    /// Those that are the kernel's business: what follows two dashes is for init (`parse_args` in `kernel/params.c`).
    pub fn of_the_kernel(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.arguments().take_while(|argument| *argument != (b"--", None))
    }

    /// `init=`: of several, the kernel takes the last.
    pub fn init(&self) -> Option<&[u8]> {
        self.of_the_kernel().filter_map(|(name, value)| value.filter(|_| name == b"init")).last()
    }

    /// The value of the first of our arguments called `name`; the first wins, as in libostree.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all our arguments called `name`.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.ours().filter(move |(n, _)| *n == name.as_bytes()).filter_map(|(_, value)| value)
    }

    /// The link asked for; `android`: a slot of Android's comes first.
    ///
    /// # Errors
    /// [`Class::Cmdline`] when nothing is asked for, `ostree=` is empty, or the slot is neither
    /// `_a` nor `_b`.
    pub fn link(&self, android: bool) -> Result<Link> {
        match self.slot() {
            Some(slot) if android => slot.map(Link::Slot),
            _ => self.boot_link().map(Link::Boot),
        }
    }

    /// The boot link that `ostree=` names, if it has the form of one: it tells which kernel is running.
    pub fn booted(&self) -> Option<BootLink> {
        self.value("ostree").or_else(|| self.plain_ostree()).and_then(BootLink::parse)
    }

    fn slot(&self) -> Option<Result<Slot>> {
        if let Some(suffix) = self.value("androidboot.slot_suffix") {
            return Some(match suffix {
                b"_a" => Ok(Slot::A),
                b"_b" => Ok(Slot::B),
                other => Err(Error::found(
                    Class::Cmdline,
                    FIND,
                    format!("androidboot.slot_suffix={} is neither _a nor _b", printable(other)),
                )
                .hint("mend the boot loader's configuration, or add androidboot.slot_suffix=_a in front")),
            });
        }
        // Android without A/B slots boots from slot a: https://source.android.com/docs/core/ota/nonab
        self.ours().any(|(name, _)| name.starts_with(b"androidboot.")).then_some(Ok(Slot::A))
    }

    fn boot_link(&self) -> Result<Vec<u8>> {
        let hint = "boot with ostree=/ostree/boot.N/STATEROOT/BOOTCSUM/SERIAL";
        let mut values = self.values("ostree");
        let unclosed = self.bytes.iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
        let first = match (values.next(), self.plain_ostree().filter(|_| unclosed)) {
            (Some(first), _) => first,
            (None, Some(hidden)) => {
                log::warn!(
                    "a quote before ostree={} is not closed: taking it all the same",
                    printable(hidden)
                );
                hidden
            }
            (None, None) => {
                return Err(Error::found(Class::Cmdline, FIND, "there is no ostree= argument").hint(hint));
            }
        };
        if let Some(other) = values.find(|other| *other != first) {
            log::warn!(
                "ostree= is given more than once: using the first ({}), ignoring {}",
                printable(first),
                printable(other)
            );
        }
        // RHEL writes the value without the leading slash.
        let path = &first[first.iter().take_while(|&&byte| byte == b'/').count()..];
        if path.is_empty() {
            return Err(Error::found(Class::Cmdline, FIND, "the ostree= argument is empty").hint(hint));
        }
        Ok(path.to_vec())
    }

    /// What the deployment's own generator will make of this command line.
    pub fn generator_reading(&self) -> GeneratorReading {
        let android =
            self.bytes.split(|&byte| byte == b' ').any(|argument| argument.starts_with(b"androidboot."));
        let plain = self.plain_ostree();
        let stateroot = plain.and_then(stateroot).map(<[u8]>::to_vec);
        GeneratorReading { target: android || plain.is_some(), stateroot }
    }

    /// `ostree=` as libostree finds it: split at spaces, no quotes known.
    fn plain_ostree(&self) -> Option<&[u8]> {
        let mut arguments = self.bytes.trim_ascii_end().split(|&byte| byte == b' ');
        arguments.find_map(|argument| argument.strip_prefix(b"ostree="))
    }
}

/// The deployment's `ostree-system-generator` reads the command line again, more simply than the
/// kernel does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratorReading {
    /// It finds that a deployment was asked for; if not, it does nothing.
    pub target: bool,
    /// The stateroot that it finds in `ostree=` and needs for `var.mount`.
    pub stateroot: Option<Vec<u8>>,
}

/// The stateroot in a boot link of the one form that the generator takes apart:
/// `/ostree/boot.[01]/STATEROOT/BOOTCSUM/SERIAL`.
fn stateroot(boot_link: &[u8]) -> Option<&[u8]> {
    let path = boot_link.strip_prefix(b"/ostree/boot.")?;
    let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let [b"0" | b"1", stateroot, bootcsum, serial] = parts[..] else { return None };
    let whole = !stateroot.is_empty() && !bootcsum.is_empty() && !serial.is_empty();
    (whole && serial.iter().all(u8::is_ascii_digit)).then_some(stateroot)
}

/// Where the arguments are.
fn split(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let start = at + bytes[at..].iter().position(|byte| !byte.is_ascii_whitespace())?;
        let mut quoted = false;
        let ends = |&byte: &u8| {
            quoted ^= byte == b'"';
            byte.is_ascii_whitespace() && !quoted
        };
        at = bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length);
        Some(start..at)
    })
}

fn split_argument(argument: &[u8]) -> (&[u8], Option<&[u8]>) {
    // A quote before the name protects the whole argument: "name=value with spaces".
    let argument = match argument.strip_prefix(b"\"") {
        Some(inner) => inner.strip_suffix(b"\"").unwrap_or(inner),
        None => argument,
    };
    let Some(equals) = argument.iter().position(|&byte| byte == b'=') else {
        return (argument, None);
    };
    let value = &argument[equals + 1..];
    let value = match value.strip_prefix(b"\"") {
        Some(inner) => inner.strip_suffix(b"\"").unwrap_or(inner),
        None => value,
    };
    (&argument[..equals], Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(cmdline: &str) -> Result<Link> {
        Cmdline::new(cmdline).link(true)
    }

    fn boot_link(path: &str) -> Result<Link> {
        Ok(Link::Boot(path.as_bytes().to_vec()))
    }

    #[test]
    fn splits_and_unquotes_like_the_kernel() {
        let cmdline = Cmdline::new("a  b=1\tc=\"x y\" \"d=p q\" e= ===\n");
        let arguments: Vec<_> = cmdline.arguments().collect();
        let expected: [(&[u8], Option<&[u8]>); 6] = [
            (b"a", None),
            (b"b", Some(b"1")),
            (b"c", Some(b"x y")),
            (b"d", Some(b"p q")),
            (b"e", Some(b"")),
            (b"", Some(b"==")),
        ];
        assert_eq!(arguments, expected);
    }

    #[test]
    fn an_unclosed_quote_ends_with_the_line() {
        assert_eq!(Cmdline::new("ostree=\"b c").value("ostree"), Some(&b"b c"[..]));
        assert_eq!(Cmdline::new("\"").arguments().next(), Some((&b""[..], None)));
    }

    #[test]
    fn ostree_with_and_without_slash_and_quotes() {
        for line in [
            "ostree=/ostree/boot.1/d/c/0",
            "quiet ostree=ostree/boot.1/d/c/0",
            "ostree=\"//ostree/boot.1/d/c/0\"",
        ] {
            assert_eq!(target(line), boot_link("ostree/boot.1/d/c/0"), "{line}");
        }
    }

    #[test]
    fn the_first_of_several_wins_and_prefixes_do_not_count() {
        assert_eq!(target("ostreex=/no xostree=/no ostree=/a ostree=/b"), boot_link("a"));
    }

    #[test]
    fn android_slots() {
        assert_eq!(target("ostree=/x androidboot.slot_suffix=_a"), Ok(Link::Slot(Slot::A)));
        assert_eq!(target("androidboot.slot_suffix=_b"), Ok(Link::Slot(Slot::B)));
        assert_eq!(target("androidboot.serialno=5 ostree=/x"), Ok(Link::Slot(Slot::A)));
        assert_eq!(target("androidboot.slot_suffix=_c").map_err(|e| e.class()), Err(Class::Cmdline));
    }

    #[test]
    fn missing_and_empty_are_refused_differently() {
        let text = |line| target(line).expect_err("accepted").to_string();
        assert!(text("quiet").contains("there is no ostree= argument"));
        assert!(text("ostree= quiet").contains("is empty"));
        assert!(text("ostree=///").contains("is empty"));
    }

    #[test]
    fn an_unclosed_quote_does_not_hide_the_deployment() {
        assert_eq!(target("dyndbg=\"file x ostree=/a quiet"), boot_link("a"));
        assert!(target("dyndbg=\"file x ostree=/a y\" quiet").is_err());
    }

    #[test]
    fn knows_what_the_generator_makes_of_it() {
        let reading = |line: &str| {
            let GeneratorReading { target, stateroot } = Cmdline::new(line).generator_reading();
            (target, stateroot == Some(b"debian".to_vec()))
        };
        assert_eq!(reading("ro ostree=/ostree/boot.1/debian/c0ffee/0\n"), (true, true));
        for line in [
            "ostree=ostree/boot.1/debian/c0ffee/0",
            "ostree=\"/ostree/boot.1/debian/c0ffee/0\"",
            "ostree=/ostree/boot.1.1/debian/c0ffee/0",
            "ostree=/ostree/boot.1/debian/c0ffee/x",
            "ostree=/ostree/boot.1/debian/c0ffee",
            "androidboot.slot_suffix=_a",
        ] {
            assert_eq!(reading(line), (true, false), "{line}");
        }
        for line in
            ["quiet", "\"ostree=/ostree/boot.1/debian/c0ffee/0\"", "ro\tostree=/ostree/boot.1/debian/c/0"]
        {
            assert_eq!(reading(line), (false, false), "{line}");
        }
    }
}
