//! What fills our program's file: by kind, from its sections, and by crate, from the symbols of the same program that
//! was not stripped.

use crate::Workshop;
use crate::benchmark::{PAGE, TITLE};
use crate::page;
use crate::table;
use anyhow::{Context, Result, ensure};
use goblin::elf::{Elf, section_header::SHT_NOBITS, sym::STT_FUNC};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Sections by kind. What is in no list is counted with the headers.
const KINDS: [(&str, &[&str]); 4] = [
    ("code", &[".text", ".init", ".fini"]),
    ("constants", &[".rodata"]),
    ("data, and tables of functions", &[".data", ".data.rel.ro", ".tdata", ".init_array", ".fini_array"]),
    (
        "for loading it to any address",
        &[
            ".dynamic",
            ".dynsym",
            ".dynstr",
            ".gnu.hash",
            ".hash",
            ".rela.dyn",
            ".relr.dyn",
            ".got",
            ".got.plt",
        ],
    ),
];

/// What code without a Rust name is.
const C: &str = "musl, and what the compiler calls";

/// Code of one crate.
#[derive(Debug, Default, PartialEq)]
struct Code {
    functions: usize,
    bytes: u64,
    /// By the module right below the crate.
    modules: BTreeMap<String, u64>,
}

/// Builds the program once more, prints the tables, and writes them down.
pub fn run(workshop: &Workshop, workspace: &Path) -> Result<()> {
    let circumstances = table::circumstances(workspace)?;
    let product = workshop.product.as_ref().context("our program was not built")?;
    let building = "building ostree-prepare-root with its symbols (make build)";
    let unstripped = workshop.progress.step(building, || product.unstripped())?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let (stripped, unstripped) = (read(&product.program())?, read(&unstripped)?);
    let (stripped_elf, elf) = (parse(&stripped)?, parse(&unstripped)?);
    let kinds = kinds(&stripped_elf, stripped.len())?;
    ensure!(
        are_alike(&self::kinds(&elf, unstripped.len())?, &kinds),
        "the program is not what `make build` makes of this source: leave $PREPARE_ROOT_BIN out"
    );
    let crates = crates(&elf)?;
    let tables = format!("{}\n{}", kinds_table(&kinds), crates_table(&crates, kinds[0].1));
    print!("\n{tables}");
    let section = format!("{HEADING}\n\n{INTRODUCTION}\n{circumstances}\n\n{tables}");
    let path = workspace.join(PAGE);
    page::write_section(&path, TITLE, &section).with_context(|| format!("write {}", path.display()))
}

/// Whether two builds are of one source. The compiler's own names for symbols move a few bytes of code.
fn are_alike(one: &[(&str, u64)], other: &[(&str, u64)]) -> bool {
    let mut pairs = one.iter().zip(other).take(KINDS.len());
    pairs.all(|((_, one), (_, other))| one.abs_diff(*other) <= other / 1000)
}

fn parse(file: &[u8]) -> Result<Elf<'_>> {
    Elf::parse(file).context("read the program")
}

/// The kinds with their bytes in the file, what is none of them, and everything.
fn kinds(elf: &Elf<'_>, file: usize) -> Result<Vec<(&'static str, u64)>> {
    let size = |names: &[&str]| -> u64 {
        let sections = elf.section_headers.iter().filter(|section| section.sh_type != SHT_NOBITS);
        let is_one = |name: usize| elf.shdr_strtab.get_at(name).is_some_and(|name| names.contains(&name));
        sections.filter(|section| is_one(section.sh_name)).map(|section| section.sh_size).sum()
    };
    let mut kinds: Vec<_> = KINDS.iter().map(|(kind, names)| (*kind, size(names))).collect();
    let all = u64::try_from(file)?;
    let known: u64 = kinds.iter().map(|(_, bytes)| bytes).sum();
    kinds.push(("headers, and gaps", all.checked_sub(known).context("sections overlap")?));
    kinds.push(("the file", all));
    Ok(kinds)
}

/// The code of every crate.
fn crates(elf: &Elf<'_>) -> Result<BTreeMap<String, Code>> {
    // Of several names for one function the longest counts.
    let mut functions: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    for symbol in elf.syms.iter().filter(|symbol| symbol.st_type() == STT_FUNC && symbol.st_size > 0) {
        let name = elf.strtab.get_at(symbol.st_name).context("a symbol has no name")?;
        let function = functions.entry(symbol.st_value).or_default();
        *function = (*function).max((symbol.st_size, name));
    }
    ensure!(!functions.is_empty(), "the program has no symbols");
    let mut crates: BTreeMap<String, Code> = BTreeMap::new();
    for (size, name) in functions.into_values() {
        let (owner, module) = owner(name);
        let code = crates.entry(owner).or_default();
        code.functions += 1;
        code.bytes += size;
        *code.modules.entry(module).or_default() += size;
    }
    Ok(crates)
}

/// Crate and module that a function is written in. Generic code is of the crate that has it, not of the type that it was
/// compiled for.
fn owner(symbol: &str) -> (String, String) {
    let Ok(name) = rustc_demangle::try_demangle(symbol) else { return (C.to_owned(), String::new()) };
    let name = format!("{name:#}");
    // `<a::B as c::D>::e` is in `a`, unless the type is nobody's: `<&T as c::D>::e` is in `c`.
    let path = |text: &str| -> Option<(String, String)> {
        let text = text.trim_start_matches(['<', '&', '*', '[', '(']);
        let text = text.strip_prefix("mut ").or(text.strip_prefix("dyn ")).unwrap_or(text);
        let mut words = text.split("::");
        let owner = words.next()?;
        let is_word = |word: &str| {
            word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') && !word.is_empty()
        };
        // A path has at least two parts.
        let module = words.next()?;
        let end = module.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        is_word(owner).then(|| (owner.to_owned(), module[..end.unwrap_or(module.len())].to_owned()))
    };
    let of_trait = || path(name.split_once(" as ")?.1);
    // What is left are methods of the types that every program has: `<[u8]>::ends_with`.
    let core = || ("core".to_owned(), String::new());
    let (owner, module) = path(&name).or_else(of_trait).unwrap_or_else(core);
    match owner.as_str() {
        "ostree_prepare_root" => ("prepare_root".to_owned(), module),
        // The allocator, as the compiler calls it.
        "__rustc" => (C.to_owned(), String::new()),
        _ => (owner, module),
    }
}

fn kinds_table(kinds: &[(&str, u64)]) -> String {
    let mut rows = vec![["kind", "bytes"].map(str::to_owned)];
    rows.extend(kinds.iter().map(|(kind, bytes)| [(*kind).to_owned(), thousands(*bytes)]));
    page::table(&rows)
}

/// The crates, the largest first; `code` is what all have together with what fills gaps.
fn crates_table(crates: &BTreeMap<String, Code>, code: u64) -> String {
    let mut rows = vec![["crate", "code, bytes", "share", "functions", "largest modules"].map(str::to_owned)];
    let share = |bytes: u64| {
        let tenths = (bytes * 1000 + code / 2) / code.max(1);
        format!("{}.{} %", tenths / 10, tenths % 10)
    };
    let mut sorted: Vec<_> = crates.iter().collect();
    sorted.sort_by_key(|(_, code)| std::cmp::Reverse(code.bytes));
    for (name, Code { functions, bytes, modules }) in sorted {
        let mut modules: Vec<_> = modules.iter().filter(|(module, _)| !module.is_empty()).collect();
        modules.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        let modules =
            modules.iter().take(4).map(|(module, bytes)| format!("{module} {}", thousands(**bytes)));
        rows.push([
            name.clone(),
            thousands(*bytes),
            share(*bytes),
            functions.to_string(),
            modules.collect::<Vec<_>>().join(", "),
        ]);
    }
    let between = code.saturating_sub(crates.values().map(|code| code.bytes).sum());
    rows.push(["between functions".into(), thousands(between), share(between), String::new(), String::new()]);
    page::table(&rows)
}

/// With a comma between the thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const HEADING: &str = "## What fills the program";

const INTRODUCTION: &str = "\
`make boot-compare` writes this section: the file for x86_64 by kind, from its sections, and its code by crate, from the symbols of the same program before it is stripped. Generic code
counts for the crate that it is written in, also where it was compiled for a type of another; inlined code counts for the function that it was inlined into.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_is_found_in_every_kind_of_name() {
        let of = |symbol: &str| owner(symbol).0;
        assert_eq!(of("_ZN12prepare_root7explain11Explanation4look17h71a23c568372b17bE"), "prepare_root");
        assert_eq!(of("_ZN19ostree_prepare_root4main17h17d1a931d6d1a945E"), "prepare_root");
        assert_eq!(of("_RNvNtNtCs4dxIg2ZLmWm_11miniz_oxide7inflate4core10decompress"), "miniz_oxide");
        // <prepare_root::error::Error as core::fmt::Display>::fmt
        let method =
            "_ZN65_$LT$prepare_root..error..Error$u20$as$u20$core..fmt..Display$GT$3fmt17h71a23c568372b17bE";
        assert_eq!(owner(method), ("prepare_root".to_owned(), "error".to_owned()));
        // <&T as core::fmt::Debug>::fmt
        let blanket = "_ZN42_$LT$$RF$T$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE";
        assert_eq!(owner(blanket), ("core".to_owned(), "fmt".to_owned()));
        assert_eq!(of("memcpy"), C);
    }

    #[test]
    fn a_few_bytes_are_no_other_source() {
        let program =
            |code, constants| [("code", code), ("constants", constants), ("data", 40), ("symbols", 0)];
        assert!(are_alike(&program(293_626, 37_050), &program(293_638, 37_050)));
        assert!(!are_alike(&program(293_000, 37_050), &program(293_638, 37_050)));
        assert!(!are_alike(&program(293_638, 37_150), &program(293_638, 37_050)));
    }

    #[test]
    fn numbers_can_be_read() {
        assert_eq!(
            [1, 999, 1000, 564_528, 1_000_001].map(thousands),
            ["1", "999", "1,000", "564,528", "1,000,001"]
        );
    }
}
