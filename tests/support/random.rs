//! What differs from run to run of the same program, taken out.

use super::mounts::Row;

/// Takes the device number of overlays out, the random part of their layers' names, and the name by
/// which an overlay found its lower layer: that path means nothing any more, whichever program
/// wrote it.
pub fn without_random_rows(mut rows: Vec<Row>) -> Vec<Row> {
    for row in rows.iter_mut().filter(|row| row.kind == "overlay") {
        row.device = (0, 0);
        let options = row.super_options.split(',').map(without_random);
        let options = options.map(|option| match option.split_once('=') {
            Some(("lowerdir", _)) => "lowerdir=?".to_owned(),
            _ => option,
        });
        row.super_options = options.collect::<Vec<_>>().join(",");
    }
    rows
}

/// Replaces the random end of the name of the folder with the transient `/etc`.
pub fn without_random(text: &str) -> String {
    const NAME: &str = "transient-etc.";
    const RANDOM: &str = "XXXXXX";
    let mut text = text.to_owned();
    let starts: Vec<usize> = text.match_indices(NAME).map(|(at, _)| at + NAME.len()).collect();
    for start in starts {
        text.replace_range(start..start + RANDOM.len(), RANDOM);
    }
    text
}
