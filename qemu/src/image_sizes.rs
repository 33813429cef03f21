//! How many bytes an initramfs grows by our program and by libostree's.

use crate::Workshop;
use crate::archive;
use crate::benchmark::{PAGE, TITLE, megabytes};
use crate::generator::Generator;
use crate::machine::Arch;
use crate::page;
use crate::recipe::Recipe;
use crate::script;
use crate::suite::Suite;
use crate::table;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const IMAGES: &str = include_str!("../tree/images.sh");

/// Where all sizes are.
const SAMPLES: &str = "docs/benchmarks/image-sizes.csv";

/// What our program may add to an uncompressed dracut image.
const MOST_ADDED: u64 = 460_000;

/// What is made: `tree/images.sh` has the same names.
const NONE: &str = "none";
const VARIANTS: [&str; 3] = [NONE, "libostree", "ours"];

/// One image.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size {
    suite: Suite,
    generator: Generator,
    variant: &'static str,
    /// Its archives.
    unpacked: u64,
    /// The file.
    packed: u64,
}

/// Makes all images, prints the table, and writes it down; whether ours add no more than they may.
pub fn run(workshop: &Workshop, workspace: &Path) -> Result<bool> {
    let Workshop { cache, progress, product, .. } = workshop;
    let circumstances = table::circumstances(workspace)?;
    let product = product.as_ref().context("our program was not built")?.files(Arch::Amd64, progress)?;
    let mut sizes = Vec::new();
    for suite in [Suite::Trixie, Suite::Forky] {
        for generator in [Generator::Dracut, Generator::InitramfsTools] {
            let logs = cache.logs(&format!("images-{generator}-{suite}"))?;
            let (place, tree) = workshop.builder()?.tree(&Recipe::new(suite).generator(generator), &logs)?;
            let images = place.join("images");
            fs::create_dir(&images).context("create a directory for images")?;
            let mut command =
                script::in_mount_namespace(IMAGES, [&tree, Path::new(generator.name()), &product, &images]);
            let making = format!("{suite}: making initramfs images ({generator})");
            progress.step(&making, || script::run(&mut command, &logs.join("images.log")))?;
            for variant in VARIANTS {
                let image = images.join(format!("{variant}.img"));
                if image.exists() {
                    let (unpacked, packed) = (archive::unpacked(&image)?, fs::metadata(&image)?.len());
                    sizes.push(Size { suite, generator, variant, unpacked, packed });
                }
            }
        }
    }
    let table = markdown(&sizes);
    let (missed, reached) = judge(&sizes);
    print!("\n{table}\n{reached}");
    let samples = workspace.join(SAMPLES);
    fs::create_dir_all(samples.parent().context("samples have a directory")?)?;
    fs::write(&samples, csv(&sizes)).with_context(|| format!("write {}", samples.display()))?;
    let section = format!("{HEADING}\n\n{INTRODUCTION}\n{circumstances}\n\n{table}\n{reached}");
    let path = workspace.join(PAGE);
    page::write_section(&path, TITLE, &section).with_context(|| format!("write {}", path.display()))?;
    Ok(!missed)
}

/// What an image of this kind has more than the same without.
fn added(sizes: &[Size], without: &Size, variant: &str) -> Option<[u64; 2]> {
    let same = |size: &&Size| size.suite == without.suite && size.generator == without.generator;
    let with = sizes.iter().filter(same).find(|size| size.variant == variant)?;
    // Nobody's program makes an image smaller; if one were, no number would be better than a wrong one.
    Some([with.unpacked.checked_sub(without.unpacked)?, with.packed.checked_sub(without.packed)?])
}

/// The images without.
fn without(sizes: &[Size]) -> impl Iterator<Item = &Size> {
    sizes.iter().filter(|size| size.variant == NONE)
}

fn markdown(sizes: &[Size]) -> String {
    let head = ["", "", "without", "compressed", "ours", "compressed", "libostree", "compressed"];
    let mut rows = vec![head.map(str::to_owned)];
    for image in without(sizes) {
        let cells = |variant| match added(sizes, image, variant) {
            Some(bytes) => bytes.map(|bytes| format!("+{}", megabytes(bytes))),
            None => ["none", "none"].map(str::to_owned),
        };
        let ([ours, ours_packed], [other, other_packed]) = (cells("ours"), cells("libostree"));
        let (suite, generator) = (image.suite.to_string(), image.generator.to_string());
        let [unpacked, packed] = [image.unpacked, image.packed].map(megabytes);
        rows.push([suite, generator, unpacked, packed, ours, ours_packed, other, other_packed]);
    }
    page::table(&rows)
}

/// Whether ours add more than they may, and a sentence for each.
fn judge(sizes: &[Size]) -> (bool, String) {
    let mut missed = false;
    let mut text =
        format!("To reach: at most {} added to an uncompressed dracut image.\n\n", megabytes(MOST_ADDED));
    for image in without(sizes).filter(|image| image.generator == Generator::Dracut) {
        let bytes = added(sizes, image, "ours").map(|[unpacked, _]| unpacked);
        let within = bytes.is_some_and(|bytes| bytes <= MOST_ADDED);
        missed |= !within;
        let said = bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{bytes} bytes"));
        let _ = writeln!(text, "- {}: {said}: {}", image.suite, if within { "reached" } else { "MISSED" });
    }
    (missed, text)
}

fn csv(sizes: &[Size]) -> String {
    let mut text = "suite,generator,with,uncompressed_bytes,compressed_bytes\n".to_owned();
    for Size { suite, generator, variant, unpacked, packed } in sizes {
        let _ = writeln!(text, "{suite},{generator},{variant},{unpacked},{packed}");
    }
    text
}

const HEADING: &str = "## Bytes added to an initramfs";

const INTRODUCTION: &str = "\
`make boot-compare` writes this section, and all sizes to [image-sizes.csv](benchmarks/image-sizes.csv). In one system, its generator makes an initramfs for any machine with the cloud kernel:
*without* any ostree-prepare-root, and with our files or those of Debian's `ostree-boot`; the other columns are what that adds. (`ostree-boot` has nothing for initramfs-tools.) Sizes are those of
the archives in the image, and of the image as the generator compresses it by default: `zstd -15` by dracut, `zstd -9` by initramfs-tools. With the latter, ours brings the drivers for composefs, which such an image does not have otherwise. MB are 10^6 bytes.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn size(variant: &'static str, unpacked: u64) -> Size {
        let (suite, generator) = (Suite::Forky, Generator::Dracut);
        Size { suite, generator, variant, unpacked, packed: unpacked / 2 }
    }

    #[test]
    fn what_adds_too_much_is_missed() {
        let missed = |ours: u64| judge(&[size(NONE, 1_000_000), size("ours", ours)]).0;
        assert!(!missed(1_460_000));
        assert!(missed(1_460_001));
        assert!(missed(999_999));
        assert!(judge(&[size(NONE, 1_000_000)]).0);
    }

    #[test]
    fn what_there_is_not_has_no_number() {
        let text = markdown(&[size(NONE, 1_000_000), size("ours", 1_400_000)]);
        assert!(text.contains("| +0.40 MB | +0.20 MB   | none      | none "), "{text}");
    }
}
